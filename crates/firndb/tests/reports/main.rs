//! Bug reports of other engines: public ones, each told as the shortest program that could show the same kind of fault here.
//!
//! A report is tried by its kind, not by its letter: its program is varied until it fails, or until no variation is left
//! that could. What failed here is marked, and was put right for all of its kind.
//!
//! | kind | reports | here |
//! |---|---|---|
//! | closing waits for a stall to end | facebook/rocksdb#12346 | the last flush waits for nothing |
//! | a call waits where nothing works any more | facebook/rocksdb#4615 | refused with the cause |
//! | claims of a failed job stay | facebook/rocksdb#4611 | given back, whatever failed |
//! | writers in a stall sleep through a close | yugabyte/yugabyte-db#19709, slatedb/slatedb#1609 | told `Closed` at once |
//! | a stall outlives its reason | facebook/rocksdb#1208, #8643, #1884, #1966 | decided anew with every option and job |
//! | small memtables of many families | facebook/rocksdb#4622, #4792 | flushes end; what is empty is no memtable to flush |
//! | a write, or what recovery left, beyond every limit | dgraph-io/badger#410, fjall-rs/fjall#257 | writers wait for what comes, or for nothing |
//! | a slow MANIFEST holds up memtables | cockroachdb/pebble#1915 | no writer waits for MANIFEST |
//! | a thread waits for its own iterator | fjall-rs/fjall#74 | iterators hold no lock |
//! | a limit on speed becomes a stop | facebook/rocksdb#11742 | flushes never wait for it, closing neither |
//! | a budget whose holders nobody can flush | typedb/typedb#7877, HarperFast/harper#2490, speedb-io/speedb#859, facebook/rocksdb#1893 | the largest is flushed, in whichever database |
//! | memory of what was dropped counts on | facebook/rocksdb#4280 | **failed**: a dropped family now leaves the budget at once |
//! | a full disk, or quota, without an end | facebook/rocksdb#8217, #11643, #9876, #10134, apache/kvrocks#627, cberner/redb#620 | writes go on by themselves; an opening fails and spoils nothing |
//! | one error of a moment for ever | HarperFast/rocksdb-js#730, freenet/freenet-core#4604 | over at the next try; each error names its own file |
//! | compactions that fail, and writers | rust-rocksdb/rust-rocksdb#818, basho/leveldb#141 | refused with the cause, tried ever more rarely |
//! | the lock outlives the handle | spacejam/sled#1234, #1289 | free when the call returns |
//! | closing in the middle of work | slatedb/slatedb#1080, #121, #783, facebook/rocksdb#11867 | called off; no panic, no error, no file |
//! | closing loses what is in memory | slatedb/slatedb#434 | flushed, whatever its durability |
//! | closing and writers wait for each other | fjall-rs/fjall#260, pingcap/badger#170 | the end comes first |
//! | a drop panics, or waits for itself | fjall-rs/fjall#296, pingcap/tiflash#8848, facebook/rocksdb#6742 | neither |
//! | readers under a close | syndtr/goleveldb#148 | ousted by name |
//! | told before it is so, late, twice or never | facebook/rocksdb#5892, #14992, #8495, #6342 | told in order, once, when it is durable |
//! | logs that nobody needs | fjall-rs/fjall#288, facebook/rocksdb#3145, #4180 | the limit holds, whatever rests |
//! | compactions without an end | facebook/rocksdb#10752 | a rewrite is due only for what it would change |
//! | files of what was dropped | facebook/rocksdb#12087 | gone with the job that made them |
//! | tables of nothing | surrealdb/surrealkv#302 | none is made |
//! | an old view keeps what came after it | facebook/rocksdb#10536 | only what it sees |
//! | tiny flushes | slatedb/slatedb#1640, facebook/rocksdb#10706 | few files, bounded rewriting |
//! | a family without its options | facebook/rocksdb#14267 | **failed**: OPTIONS is written before MANIFEST names the family |
//! | what was set is lost, or not shown | facebook/mysql-5.6#888, apache/incubator-pegasus#571, quixio/quix-streams#1136, facebook/rocksdb#1242 | kept, and shown by every handle |
//! | a zero that holds up everything | apache/kvrocks#3034 | put in order |
//! | a failed open gives the lock away | facebook/rocksdb#1780, cockroachdb/pebble#3399 | it belongs to the open file, and a directory has one name |
//! | descriptors that others have | google/leveldb#181 | **failed**: idle tables of all databases of the process are asked |
//! | who only reads, writes | dgraph-io/badger#763, cockroachdb/pebble#757 | not one change, and no lock |
//! | the directory is moved, and another one is there | facebook/rocksdb#10353, #7326, ClickHouse/ClickHouse#111958 | **failed**: paths are used only while the directory is the one that was opened |

mod around;
mod budgets;
mod closing;
mod failures;
#[expect(dead_code, reason = "shared with the scenarios, which use more of it")]
#[path = "../scenarios/lab.rs"]
mod lab;
mod listeners;
mod options;
mod patience;
mod space;
mod stalls;
