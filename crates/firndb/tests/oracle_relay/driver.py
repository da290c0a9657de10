"""Does in a real RocksDB what a script says, and prints what the database then holds.

driver.py 7.8|9.8|11.1 DIR < script, or with a third argument, then a line is done as soon as it comes; or driver.py ldb ARGUMENT... for the `ldb` inside of the package of 11.1.

RocksDB 7.8 is Debian's shared library through its C interface, which has everything; 9.8 and 11.1 are Python packages
(`rocksdict`, `amulet-rocksdb`). The one of 11.1 knows no families, but has all of `ldb` in it.

Scripts have a word a line; bytes are in hex, and `-` for none:

  open STRING          options in RocksDB's own form, `a=b;c=d`; the packages understand some of them
  family F, drop F
  put F K V, delete F K, single F K, range F A B, merge F K V, entity F K V
  batch N              the next N operations are one batch
  flush F, compact F, sync
  prepare K V          of a two-phase transaction that nobody commits; rollback ends it
  absent F K           K must not be there
  dump                 every family forwards; what is read backwards and by key must agree
  say WORD             prints it
  close, exit          the end; exit leaves everything that was not flushed in the log
"""

import os
import sys


class Seven:
    LIBRARY = "librocksdb.so.7.8"

    def __init__(self, path):
        import ctypes as c

        self.c, self.lib, self.path = c, c.CDLL(self.LIBRARY), path.encode()
        self.handles, self.transactions = {}, None

    def call(self, name, *args, result=None):
        """Of a function without an error argument. Pointers must stay wrapped: a plain number is passed as an int."""
        f = getattr(self.lib, "rocksdb_" + name)
        f.restype = result or self.c.c_void_p
        found = f(*args)
        return found if result else self.c.c_void_p(found)

    def checked(self, name, *args, result=None):
        error = self.c.c_char_p()
        found = self.call(name, *args, self.c.byref(error), result=result)
        if error.value is not None:
            raise Exception(name + ": " + error.value.decode())
        return found

    def options(self, text):
        base = self.call("options_create")
        options = self.call("options_create")
        for key in ("uint64add_merge_operator", ) if "uint64add" in text else ():
            self.call("options_set_" + key, base)
        text = text.replace("uint64add;", "").replace("two_phase;", "")
        self.checked("get_options_from_string", base, text.encode(), options)
        self.call("options_set_create_if_missing", options, 1)
        return options

    def list(self, options):
        if not os.path.exists(os.path.join(self.path.decode(), "CURRENT")):
            return [b"default"]
        c, count = self.c, self.c.c_size_t()
        names = self.checked("list_column_families", options, self.path, c.byref(count))
        return [c.cast(names, c.POINTER(c.c_char_p))[i] for i in range(count.value)]

    def load_latest(self):
        """The OPTIONS file must be good, and name what is there."""
        c = self.c
        options, count, names, families = c.c_void_p(), c.c_size_t(), c.c_void_p(), c.c_void_p()
        environment = self.call("create_default_env")
        cache = self.call("cache_create_lru", c.c_size_t(1 << 20))
        # What later releases wrote has names that this one cannot know.
        newest = max(name for name in os.listdir(self.path.decode()) if name.startswith("OPTIONS-"))
        with open(os.path.join(self.path.decode(), newest)) as file:
            is_newer = "rocksdb_version=7" not in file.read()
        self.checked("load_latest_options", self.path, environment, c.c_bool(is_newer), cache, c.byref(options),
                     c.byref(count), c.byref(names), c.byref(families))
        listed = c.cast(names, c.POINTER(c.c_char_p))
        return sorted(listed[i] for i in range(count.value))

    def open(self, text):
        c, self.own = self.c, self.options(text)
        self.write_options, self.read_options = self.call("writeoptions_create"), self.call("readoptions_create")
        self.call("readoptions_set_total_order_seek", self.read_options, 1)
        names = self.list(self.own)
        count = len(names)
        handles = (c.c_void_p * count)()
        arguments = (self.path, c.c_int(count), (c.c_char_p * count)(*names), (c.c_void_p * count)(*[self.own] * count),
                     handles)
        if "two_phase;" in text:
            self.transactions = self.checked("transactiondb_open_column_families", self.own,
                                             self.call("transactiondb_options_create"), *arguments)
            return
        else:
            self.db = self.checked("open_column_families", self.own, *arguments)
        self.handles = {name.decode(): c.c_void_p(handle) for name, handle in zip(names, handles)}

    def names(self):
        return sorted(self.handles)

    def family(self, name):
        self.handles[name] = self.checked("create_column_family", self.db, self.own, name.encode())

    def drop(self, name):
        self.checked("drop_column_family", self.db, self.handles.pop(name))

    def batch(self, operations):
        c, batch = self.c, self.call("writebatch_create")
        n = c.c_size_t
        for word, f, *rest in operations:
            name = {"put": "put_cf", "delete": "delete_cf", "single": "singledelete_cf", "range": "delete_range_cf",
                    "merge": "merge_cf"}[word]
            flat = [x for bytes_ in rest for x in (bytes_, n(len(bytes_)))]
            self.call("writebatch_" + name, batch, self.handles[f], *flat)
        self.checked("write", self.db, self.write_options, batch)
        self.call("writebatch_destroy", batch)

    def flush(self, f):
        self.checked("flush_cf", self.db, self.call("flushoptions_create"), self.handles[f])

    def compact(self, f):
        options = self.call("compactoptions_create")
        self.call("compactoptions_set_bottommost_level_compaction", options, self.c.c_ubyte(2))
        n = self.c.c_size_t(0)
        self.call("compact_range_cf_opt", self.db, self.handles[f], options, None, n, None, n)

    def sync(self):
        if not self.transactions:
            self.checked("flush_wal", self.db, 1)

    def rollback(self):
        count = self.c.c_size_t()
        found = self.call("transactiondb_get_prepared_transactions", self.transactions, self.c.byref(count))
        for t in self.c.cast(found, self.c.POINTER(self.c.c_void_p))[:count.value]:
            self.checked("transaction_rollback", self.c.c_void_p(t))
            self.call("transaction_destroy", self.c.c_void_p(t))
        if not count.value:
            raise Exception("there is no prepared transaction")

    def prepare(self, key, value):
        c = self.c
        t = self.call("transaction_begin", self.transactions, self.write_options,
                      self.call("transaction_options_create"), None)
        self.checked("transaction_set_name", t, b"undecided", c.c_size_t(9))
        self.checked("transaction_put", t, key, c.c_size_t(len(key)), value, c.c_size_t(len(value)))
        self.checked("transaction_prepare", t)

    def items(self, f, backwards):
        c, it = self.c, self.call("create_iterator_cf", self.db, self.read_options, self.handles[f])
        self.call("iter_seek_to_last" if backwards else "iter_seek_to_first", it)
        size = c.c_size_t()
        while self.call("iter_valid", it, result=c.c_ubyte):
            found = []
            for part in ("key", "value"):
                at = self.call("iter_" + part, it, c.byref(size))
                found.append(c.string_at(at, size.value))
            yield tuple(found)
            self.call("iter_prev" if backwards else "iter_next", it)
        self.checked("iter_get_error", it)
        self.call("iter_destroy", it)

    def get(self, f, key):
        c, size = self.c, self.c.c_size_t()
        at = self.checked("get_cf", self.db, self.read_options, self.handles[f], key, c.c_size_t(len(key)),
                          c.byref(size))
        if not at:
            return None
        value = c.string_at(at, size.value)
        self.call("free", at)
        return value

    def close(self):
        for handle in self.handles.values():
            self.call("column_family_handle_destroy", handle)
        self.call("close", self.db)


class Nine:
    def __init__(self, path):
        import rocksdict

        self.r, self.path = rocksdict, path

    def options(self, text):
        r = self.r
        o, b = r.Options(raw_mode=True), r.BlockBasedOptions()
        o.create_if_missing(True)
        b.set_format_version(5)
        for part in filter(None, text.split(";")):
            key, value = part.split("=", 1)
            if key == "compression":
                code = {"kZSTD": "zstd", "kNoCompression": "none"}.get(value, value[1:].replace("Compression", "").lower())
                o.set_compression_type(getattr(r.DBCompressionType, code)())
            elif key == "bloom":
                b.set_bloom_filter(float(value), False)
            elif key == "checksum":
                b.set_checksum_type(getattr(r.ChecksumType, value)())
            elif key == "partitioned":
                b.set_index_type(r.BlockBasedIndexType.two_level_index_search())
                b.set_partition_filters(True)
                b.set_metadata_block_size(256)
            elif key == "dictionary":
                o.set_compression_options(-14, 32767, 0, int(value))
            elif key == "style":
                o.set_compaction_style(getattr(r.DBCompactionStyle, value)())
            elif key == "max_bytes_for_level_multiplier":
                o.set_max_bytes_for_level_multiplier(float(value))
            elif hasattr(b, "set_" + key):
                getattr(b, "set_" + key)(int(value))
            elif key == "level0_file_num_compaction_trigger":
                o.set_level_zero_file_num_compaction_trigger(int(value))
            else:
                parsed = {"true": True, "false": False}.get(value)
                getattr(o, "set_" + key)(int(value) if parsed is None else parsed)
        o.set_block_based_table_factory(b)
        return o

    def open(self, text):
        self.text = text
        exists = os.path.exists(os.path.join(self.path, "CURRENT"))
        names = self.r.Rdict.list_cf(self.path) if exists else ["default"]
        self.db = self.r.Rdict(self.path, self.options(text), {name: self.options(text) for name in names})
        self.families = {name: self.db.get_column_family(name) for name in names if name != "default"}
        self.families["default"] = self.db

    def load_latest(self):
        _, families = self.r.Options.load_latest(self.path)
        return sorted(name.encode() for name in families)

    def names(self):
        return sorted(self.families)

    def family(self, name):
        self.families[name] = self.db.create_column_family(name, self.options(self.text))

    def drop(self, name):
        del self.families[name]
        self.db.drop_column_family(name)

    def batch(self, operations):
        batch = self.r.WriteBatch(raw_mode=True)
        if operations[0][0] == "entity":
            for _, f, key, value in operations:
                self.families[f].put_entity(key, [b"", b"name"], [value, value])
            return
        for word, f, *rest in operations:
            f = self.db.get_column_family_handle(f)
            {"put": batch.put, "delete": batch.delete, "range": batch.delete_range}[word](*rest, f)
        self.db.write(batch)

    def flush(self, f):
        self.families[f].flush()

    def compact(self, f):
        options = self.r.CompactOptions()
        options.set_bottommost_level_compaction(self.r.BottommostLevelCompaction.force())
        self.families[f].compact_range(None, None, options)

    def sync(self):
        self.db.flush_wal(True)

    def items(self, f, backwards):
        return self.families[f].items(backwards)

    def get(self, f, key):
        return self.families[f].get(key)

    def close(self):
        for name, family in self.families.items():
            if name != "default":
                family.close()
        self.db.close()


class Eleven:
    def __init__(self, path):
        import rocksdb

        self.r, self.path = rocksdb, path

    def open(self, text):
        codec = self.r.CompressionType.NoCompression
        if "compression=kZSTD" in text:
            codec = self.r.CompressionType.ZstdCompression
        self.db = self.r.RocksDB(self.path, create_if_missing=True, compression_type=codec)

    def load_latest(self):
        return [b"default"]

    def names(self):
        return ["default"]

    def batch(self, operations):
        self.db.put_batch([(key, value[0] if value else None) for _, _, key, *value in operations])

    def flush(self, f):
        # What was in the log is flushed when it is opened.
        self.db.close()
        self.open("")

    def compact(self, f):
        self.db.compact()

    def sync(self):
        pass

    def items(self, f, backwards):
        it = self.db.items()
        it.seek_to_last() if backwards else it.seek_to_first()
        while it.valid():
            yield it.key(), it.value()
            it.prev() if backwards else it.next()

    def get(self, f, key):
        try:
            return self.db.get(key)
        except KeyError:
            return None

    def close(self):
        self.db.close()


def ldb(arguments):
    """The package exports all of its C++: the constructors of the options, and the tool."""
    import ctypes as c

    import rocksdb._rocksdb as module

    lib = c.CDLL(module.__file__)
    db, family, options, tool_options, tool = (c.create_string_buffer(1 << 16) for _ in range(5))
    lib._ZN7rocksdb9DBOptionsC1Ev(db)
    lib._ZN7rocksdb19ColumnFamilyOptionsC1Ev(family)
    lib._ZN7rocksdb7OptionsC1ERKNS_9DBOptionsERKNS_19ColumnFamilyOptionsE(options, db, family)
    lib._ZN7rocksdb10LDBOptionsC1Ev(tool_options)
    words = (c.c_char_p * (len(arguments) + 1))(*[os.fsencode(a) for a in arguments], None)
    run = ("_ZN7rocksdb7LDBTool12RunAndReturnEiPPcRKNS_7OptionsERKNS_10LDBOptionsE"
           "PKSt6vectorINS_22ColumnFamilyDescriptorESaISA_EE")
    return getattr(lib, run)(tool, len(arguments), words, options, tool_options, None)


def unhex(word):
    return b"" if word == "-" else bytes.fromhex(word)


def dump(store, out):
    for name in store.names():
        out.write("family %s\n" % name)
        forwards = list(store.items(name, False))
        if list(store.items(name, True)) != forwards[::-1]:
            raise Exception("%s: backwards is not forwards" % name)
        for key, value in forwards:
            if store.get(name, key) != value:
                raise Exception("%s: get of %s differs from the iterator" % (name, key.hex()))
            out.write("%s %s\n" % (key.hex() or "-", value.hex() or "-"))


def main():
    if sys.argv[1] == "ldb":
        sys.exit(ldb(sys.argv[1:]))
    store = {"7.8": Seven, "9.8": Nine, "11.1": Eleven}[sys.argv[1]](sys.argv[2])
    # All at once, because whoever writes a script reads nothing before its end.
    lines = (line.rstrip("\n") for line in (sys.stdin if len(sys.argv) > 3 else sys.stdin.readlines()))
    out = sys.stdout

    def operation(line):
        word, f, *rest = line.split(" ")
        return (word, f, *map(unhex, rest))

    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "open":
            store.open(rest)
        elif word == "batch":
            store.batch([operation(next(lines)) for _ in range(int(rest))])
        elif word == "dump":
            dump(store, out)
        elif word == "options":
            # RocksDB need not have written one since: the file may be what another engine wrote.
            names = store.load_latest()
            if names != sorted(name.encode() for name in rest.split(" ")):
                raise Exception("the OPTIONS file names %s" % names)
        elif word == "absent":
            f, key = rest.split(" ")
            if store.get(f, unhex(key)) is not None:
                raise Exception("%s: %s is there" % (f, key))
        elif word == "say":
            print(rest, flush=True)
        elif word == "prepare":
            store.prepare(*map(unhex, rest.split(" ")))
        elif word in ("family", "drop", "flush", "compact"):
            getattr(store, word)(rest)
        elif word in ("sync", "rollback", "close"):
            getattr(store, word)()
        elif word == "exit":
            out.flush()
            os._exit(0)
        else:
            store.batch([operation(line)])
    # Whatever the packages do at the end of the interpreter is none of ours.
    out.flush()
    os._exit(0)


main()
