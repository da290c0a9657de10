"""RocksDB 7.8: Debian's shared library through its C interface, which has everything."""

import ctypes as c
import os


class Seven:
    LIBRARY = "librocksdb.so.7.8"

    def __init__(self, path):
        self.lib, self.path = c.CDLL(self.LIBRARY), path.encode()
        self.handles, self.transactions = {}, None

    def call(self, name, *args, result=None):
        """Of a function without an error argument. Pointers must stay wrapped: a plain number is passed as an int."""
        f = getattr(self.lib, "rocksdb_" + name)
        f.restype = result or c.c_void_p
        found = f(*args)
        return found if result else c.c_void_p(found)

    def checked(self, name, *args, result=None):
        error = c.c_char_p()
        found = self.call(name, *args, c.byref(error), result=result)
        if error.value is not None:
            raise Exception(name + ": " + error.value.decode())
        return found

    def options(self, text):
        base = self.call("options_create")
        options = self.call("options_create")
        # What has no text form.
        if "uint64add;" in text:
            self.call("options_set_uint64add_merge_operator", base)
        if "statistics=true;" in text:
            self.call("options_enable_statistics", base)
        for word in ("uint64add;", "statistics=true;", "two_phase;"):
            text = text.replace(word, "")
        self.checked("get_options_from_string", base, text.encode(), options)
        self.call("options_set_create_if_missing", options, 1)
        return options

    def list(self, options):
        if not os.path.exists(os.path.join(self.path.decode(), "CURRENT")):
            return [b"default"]
        count = c.c_size_t()
        names = self.checked("list_column_families", options, self.path, c.byref(count))
        return [c.cast(names, c.POINTER(c.c_char_p))[i] for i in range(count.value)]

    def load_latest(self):
        """The OPTIONS file must be good, and name what is there."""
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
        self.own = self.options(text)
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
        self.db = self.checked("open_column_families", self.own, *arguments)
        self.handles = {name.decode(): c.c_void_p(handle) for name, handle in zip(names, handles)}

    def names(self):
        return sorted(self.handles)

    def family(self, name):
        self.handles[name] = self.checked("create_column_family", self.db, self.own, name.encode())

    def drop(self, name):
        self.checked("drop_column_family", self.db, self.handles.pop(name))

    def batch(self, operations):
        batch = self.call("writebatch_create")
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
        self.call("compactoptions_set_bottommost_level_compaction", options, c.c_ubyte(2))
        n = c.c_size_t(0)
        self.call("compact_range_cf_opt", self.db, self.handles[f], options, None, n, None, n)

    def sync(self):
        if not self.transactions:
            self.checked("flush_wal", self.db, 1)

    def rollback(self):
        count = c.c_size_t()
        found = self.call("transactiondb_get_prepared_transactions", self.transactions, c.byref(count))
        for t in c.cast(found, c.POINTER(c.c_void_p))[:count.value]:
            self.checked("transaction_rollback", c.c_void_p(t))
            self.call("transaction_destroy", c.c_void_p(t))
        if not count.value:
            raise Exception("there is no prepared transaction")

    def prepare(self, key, value):
        t = self.call("transaction_begin", self.transactions, self.write_options,
                      self.call("transaction_options_create"), None)
        self.checked("transaction_set_name", t, b"undecided", c.c_size_t(9))
        self.checked("transaction_put", t, key, c.c_size_t(len(key)), value, c.c_size_t(len(value)))
        self.checked("transaction_prepare", t)

    def items(self, f, backwards):
        it = self.call("create_iterator_cf", self.db, self.read_options, self.handles[f])
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
        size = c.c_size_t()
        at = self.checked("get_cf", self.db, self.read_options, self.handles[f], key, c.c_size_t(len(key)),
                          c.byref(size))
        if not at:
            return None
        value = c.string_at(at, size.value)
        self.call("free", at)
        return value

    def ticker(self, name):
        text = c.string_at(self.call("options_statistics_get_string", self.own)).decode()
        return next(line.split()[-1] for line in text.splitlines() if line.startswith(name + " COUNT"))

    def close(self):
        for handle in self.handles.values():
            self.call("column_family_handle_destroy", handle)
        self.call("close", self.db)
