"""RocksDB 11.1, by the Python package `amulet-rocksdb`, which knows no families but has all of `ldb` in it."""

import ctypes as c
import os

import rocksdb
import rocksdb._rocksdb as module


class Eleven:
    def __init__(self, path):
        self.path = path

    def open(self, text):
        self.text = text
        codec = rocksdb.CompressionType.NoCompression
        if "compression=kZSTD" in text:
            codec = rocksdb.CompressionType.ZstdCompression
        self.db = rocksdb.RocksDB(self.path, create_if_missing=True, compression_type=codec)

    def load_latest(self):
        return [b"default"]

    def names(self):
        return ["default"]

    def batch(self, operations):
        self.db.put_batch([(key, value[0] if value else None) for _, _, key, *value in operations])

    def flush(self, f):
        # What was in the log is flushed when it is opened.
        self.db.close()
        self.open(self.text)

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
