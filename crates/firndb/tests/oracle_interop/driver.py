"""Does in a real RocksDB what a script says, and prints what the database then holds.

driver.py 7.8|9.8|11.1 DIR < script; with a third argument, a line is done as soon as it comes; or driver.py ldb ARGUMENT...
for the `ldb` of 11.1.

Scripts have a word a line; bytes are in hex, and `-` for none:

  open STRING          options in RocksDB's own form, `a=b;c=d`; the packages understand some of them
  options NAMES        the OPTIONS file that is there must be good, and name these families, between tabs
  family F, drop F
  put F K V, delete F K, single F K, range F A B, merge F K V, entity F K V
  batch N              the next N operations are one batch
  flush F, compact F, sync
  wide F K N:V,N:V     an entity of these columns, `-` for none; entities prints all keys and their columns (9.8)
  prepare K V          of a two-phase transaction that nobody commits; rollback ends it
  absent F K           K must not be there
  walk F K             prints the keys from K on in both directions, with `prefix_same_as_start` (9.8)
  dump                 every family forwards; what is read backwards and by key must agree
  ticker NAME          prints a statistic, if `statistics=true` is an option
  say WORD             prints it
  close, exit          the end; exit leaves everything that was not flushed in the log
"""

import os
import sys

# The directory of the sources stays as it is.
sys.dont_write_bytecode = True

OPERANDS = {"put": 2, "delete": 1, "single": 1, "range": 2, "merge": 2, "entity": 2}


def connect(release, path):
    if release == "7.8":
        from rocksdb_7 import Seven as store
    elif release == "9.8":
        from rocksdb_9 import Nine as store
    else:
        from rocksdb_11 import Eleven as store
    return store(path)


def unhex(word):
    return b"" if word == "-" else bytes.fromhex(word)


def operation(line):
    """There are families with spaces in their names."""
    word, rest = line.split(" ", 1)
    family, *data = rest.rsplit(" ", OPERANDS[word])
    return (word, family, *map(unhex, data))


def dump(store):
    for name in store.names():
        print("family " + name)
        forwards = list(store.items(name, False))
        if list(store.items(name, True)) != forwards[::-1]:
            raise Exception("%s: backwards is not forwards" % name)
        for key, value in forwards:
            if store.get(name, key) != value:
                raise Exception("%s: get of %s differs from the iterator" % (name, key.hex()))
            print(key.hex() or "-", value.hex() or "-")


def check_options(store, names):
    # RocksDB need not have written one since: the file may be what another engine wrote.
    found = store.load_latest()
    if found != sorted(name.encode() for name in names):
        raise Exception("the OPTIONS file names %s" % found)


def check_absent(store, family, key):
    if store.get(family, unhex(key)) is not None:
        raise Exception("%s: %s is there" % (family, key))


def main():
    if sys.argv[1] == "ldb":
        from rocksdb_11 import ldb

        sys.exit(ldb(sys.argv[1:]))
    store = connect(*sys.argv[1:3])
    # All at once, because whoever writes a script reads nothing before its end.
    lines = (line.rstrip("\n") for line in (sys.stdin if len(sys.argv) > 3 else sys.stdin.readlines()))
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "batch":
            store.batch([operation(next(lines)) for _ in range(int(rest))])
        elif word == "dump":
            dump(store)
        elif word == "options":
            check_options(store, rest.split("\t"))
        elif word == "absent":
            check_absent(store, *rest.rsplit(" ", 1))
        elif word == "walk":
            family, key = rest.rsplit(" ", 1)
            for keys in store.walks(family, unhex(key)):
                print(" ".join(found.hex() or "-" for found in keys))
        elif word == "wide":
            family, key, columns = rest.rsplit(" ", 2)
            pairs = [] if columns == "-" else [pair.split(":") for pair in columns.split(",")]
            store.wide(family, unhex(key), [(bytes.fromhex(name), bytes.fromhex(value)) for name, value in pairs])
        elif word == "entities":
            for key, columns in store.entities():
                print(key.hex() or "-", ",".join("%s:%s" % (name.hex(), value.hex()) for name, value in columns) or "-")
        elif word == "ticker":
            print(store.ticker(rest))
        elif word == "say":
            print(rest, flush=True)
        elif word == "prepare":
            store.prepare(*map(unhex, rest.split(" ")))
        elif word in ("open", "family", "drop", "flush", "compact"):
            getattr(store, word)(rest)
        elif word in ("sync", "rollback", "close"):
            getattr(store, word)()
        elif word == "exit":
            break
        else:
            store.batch([operation(line)])
    # Nothing is closed, and whatever the packages do at the end of the interpreter is none of ours.
    sys.stdout.flush()
    os._exit(0)


main()
