"""Makes `rocksdb-9.8.4/`: `pip install rocksdict==0.3.26`, then run in an empty directory; delete LOG, LOCK and
rocksdict-config.json afterwards."""
import rocksdict, os, signal
from rocksdict import Rdict, Options, WriteBatch, BlockBasedOptions, DBCompressionType, FlushOptions
def opts():
    o=Options(raw_mode=True); o.create_if_missing(True); o.create_missing_column_families(True)
    b=BlockBasedOptions(); b.set_bloom_filter(10,False); o.set_block_based_table_factory(b)
    o.set_compression_type(DBCompressionType.lz4()); o.set_max_log_file_size(0)
    o.set_write_buffer_size(64<<10); o.set_target_file_size_base(32<<10); o.set_max_bytes_for_level_base(64<<10)
    return o
d='rocksdb-9.8.4'
db=Rdict(d,opts(),column_families={'default':opts(),'planets':opts()})
pl=db.get_column_family('planets')
els="Hydrogen Helium Lithium Beryllium Boron Carbon Nitrogen Oxygen Fluorine Neon Sodium Magnesium Aluminium Silicon Phosphorus Sulfur Chlorine Argon Potassium Calcium".split()
for i in range(3000):
    n=i*7919%3000
    db[b'square:%06d'%n]=b'%d squared is %d; this line was written by RocksDB'%(n,n*n)
for i in range(0,3000,10): db.delete(b'square:%06d'%i)
db.flush(); 
db.compact_range(None,None)
for i,e in enumerate(els,1): db[b'element:%03d'%i]=e.encode()
for i,e in enumerate("Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune Pluto".split(),1): pl[b'%d'%i]=e.encode()
db.flush(); pl.flush()
# left in the write-ahead log
db[b'element:021']=b'Scandium'; db.delete(b'element:001'); del pl[b'9']
os.kill(os.getpid(),signal.SIGKILL)
