"""RocksDB 9.8, by the Python package `rocksdict`."""

import os

import rocksdict as r


class Nine:
    def __init__(self, path):
        self.path = path

    def options(self, text):
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
            elif key == "index_type":
                b.set_index_type(getattr(r.BlockBasedIndexType, value)())
            elif key == "data_block_index_type":
                b.set_data_block_index_type(getattr(r.DataBlockIndexType, value)())
            elif key == "prefix":
                o.set_prefix_extractor(r.SliceTransform.create_max_len_prefix(int(value)))
            elif key == "statistics":
                o.enable_statistics()
            elif key == "partitioned":
                b.set_index_type(r.BlockBasedIndexType.two_level_index_search())
                b.set_partition_filters(True)
                b.set_metadata_block_size(256)
            elif key == "dictionary":
                o.set_compression_options(-14, 32767, 0, int(value))
            elif key == "max_bytes_for_level_multiplier":
                o.set_max_bytes_for_level_multiplier(float(value))
            elif hasattr(b, "set_" + key):
                getattr(b, "set_" + key)(int(value))
            elif key == "blob_compression":
                o.set_blob_compression_type(getattr(r.DBCompressionType, value)())
            elif key == "level0_file_num_compaction_trigger":
                o.set_level_zero_file_num_compaction_trigger(int(value))
            else:
                parsed = {"true": True, "false": False}.get(value)
                getattr(o, "set_" + key)(int(value) if parsed is None else parsed)
        o.set_block_based_table_factory(b)
        return o

    def open(self, text):
        self.text, self.own = text, self.options(text)
        exists = os.path.exists(os.path.join(self.path, "CURRENT"))
        names = r.Rdict.list_cf(self.path) if exists else ["default"]
        self.db = r.Rdict(self.path, self.own, {name: self.options(text) for name in names})
        self.families = {name: self.db.get_column_family(name) for name in names if name != "default"}
        self.families["default"] = self.db

    def load_latest(self):
        _, families = r.Options.load_latest(self.path)
        return sorted(name.encode() for name in families)

    def names(self):
        return sorted(self.families)

    def family(self, name):
        self.families[name] = self.db.create_column_family(name, self.options(self.text))

    def drop(self, name):
        del self.families[name]
        self.db.drop_column_family(name)

    def batch(self, operations):
        batch = r.WriteBatch(raw_mode=True)
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
        options = r.CompactOptions()
        options.set_bottommost_level_compaction(r.BottommostLevelCompaction.force())
        self.families[f].compact_range(None, None, options)

    def sync(self):
        self.db.flush_wal(True)

    def items(self, f, backwards):
        return self.families[f].items(backwards)

    def get(self, f, key):
        return self.families[f].get(key)

    def walks(self, f, key):
        options = r.ReadOptions()
        options.set_prefix_same_as_start(True)
        for seek, step in (("seek", "next"), ("seek_for_prev", "prev")):
            walk, keys = self.families[f].iter(options), []
            getattr(walk, seek)(key)
            while walk.valid():
                keys.append(walk.key())
                getattr(walk, step)()
            yield keys

    def wide(self, f, key, columns):
        self.families[f].put_entity(key, [name for name, _ in columns], [value for _, value in columns])

    def entities(self):
        found = list(self.db.entities())
        if list(self.db.entities(True)) != found[::-1]:
            raise Exception("backwards is not forwards")
        for key, columns in found:
            if self.db.get_entity(key) != columns:
                raise Exception("get_entity of %s differs from the iterator" % key.hex())
        return found

    def ticker(self, name):
        text = self.own.get_statistics()
        return next(line.split()[-1] for line in text.splitlines() if line.startswith(name + " COUNT"))

    def close(self):
        for name, family in self.families.items():
            if name != "default":
                family.close()
        self.db.close()
