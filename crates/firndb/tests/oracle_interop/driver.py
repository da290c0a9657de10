"""Drives a real RocksDB for oracle_interop: LIBRARY DIR NAME=VALUE..., commands on stdin, what a dump says on stdout.

Commands are lines of words between tabs; keys and values in hex: put F K V, delete F K, flush F, compact F, create F,
drop F, dump, leave (the process ends without closing: what is in memory is in the log only).
"""

import os
import sys

library, path = sys.argv[1], sys.argv[2]
options = dict(word.split("=") for word in sys.argv[3:])


class Nine:
    """RocksDB 9.8, by rocksdict."""

    def __init__(self):
        import rocksdict

        self.r = rocksdict
        names = [n for n in rocksdict.Rdict.list_cf(path, self.options())] if os.path.exists(path + "/CURRENT") else []
        self.db = rocksdict.Rdict(path, self.options(), column_families={n: self.options() for n in names} or None)
        self.families = {n: self.db.get_column_family(n) for n in names if n != "default"}
        self.families["default"] = self.db

    def options(self):
        r = self.r
        o = r.Options(raw_mode=True)
        o.create_if_missing(True)
        o.set_compression_type(getattr(r.DBCompressionType, options.get("codec", "none"))())
        o.set_write_buffer_size(int(options.get("buffer", 1 << 16)))
        o.set_target_file_size_base(1 << 14)
        o.set_max_bytes_for_level_base(1 << 16)
        o.set_level_zero_file_num_compaction_trigger(3)
        if "dictionary" in options:
            o.set_compression_options(-14, 32767, 0, int(options["dictionary"]))
        if "blobs" in options:
            o.set_enable_blob_files(True)
            o.set_min_blob_size(int(options["blobs"]))
        b = r.BlockBasedOptions()
        b.set_format_version(int(options.get("format", 5)))
        b.set_block_size(int(options.get("block", 4096)))
        if "bloom" in options:
            b.set_bloom_filter(float(options["bloom"]), False)
        if options.get("index") == "two_level":
            b.set_index_type(r.BlockBasedIndexType.two_level_index_search())
        o.set_block_based_table_factory(b)
        return o

    def put(self, f, k, v):
        self.families[f][k] = v

    def delete(self, f, k):
        self.families[f].delete(k)

    def flush(self, f):
        self.families[f].flush()

    def compact(self, f):
        self.families[f].compact_range(None, None)

    def create(self, f):
        self.families[f] = self.db.create_column_family(f, self.options())

    def drop(self, f):
        del self.families[f]
        self.db.drop_column_family(f)

    def delete_range(self, f, a, b):
        self.families[f].delete_range(a, b)

    def entity(self, f, k, v):
        self.families[f].put_entity(k, [b"a", b"b"], [v, v])

    def dump(self):
        return {f: d.items() for f, d in self.families.items()}

    def get(self, f, k):
        return self.families[f][k]

    def close(self):
        for f, d in self.families.items():
            if f != "default":
                d.close()
        self.db.close()


class Eleven:
    """RocksDB 11.1, by amulet-rocksdb: one family, zstd or nothing."""

    def __init__(self):
        import rocksdb

        o = rocksdb.Options()
        o.create_if_missing = True
        codec = {"none": "NoCompression", "zstd": "ZstdCompression"}[options.get("codec", "none")]
        o.compression_type = getattr(rocksdb.CompressionType, codec)
        self.db = rocksdb.RocksDB(path, options=o)

    def put(self, f, k, v):
        self.db.put(k, v)

    def delete(self, f, k):
        self.db.delete(k)

    def flush(self, f):
        # It has no flush, but opening flushes what it finds in the log.
        self.db.close()
        self.__init__()

    def compact(self, f):
        self.db.compact()

    def dump(self):
        return {"default": self.db.items()}

    def get(self, f, k):
        return self.db.get(k)

    def close(self):
        self.db.close()


db = {"9.8": Nine, "11.1": Eleven}[library]()
for line in sys.stdin:
    verb, *words = line.rstrip("\n").split("\t")
    family = words[0] if words else None
    data = [bytes.fromhex(word) for word in words[1:]]
    if verb == "dump":
        for name, entries in sorted(db.dump().items()):
            print("family\t" + name)
            for k, v in entries:
                assert db.get(name, k) == v, (name, k)
                print("%s\t%s\t%s" % (name, k.hex(), v.hex()))
    elif verb == "leave":
        sys.stdout.flush()
        os._exit(0)
    else:
        getattr(db, verb)(family, *data)
db.close()
