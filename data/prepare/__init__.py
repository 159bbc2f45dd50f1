"""Converts official archives into `<DATA_ROOT>/<folder>/{train.txt,test.txt,train/,test/}`.

    python -m data.prepare cub|car|product|shop --data_root DIR [--archive FILE ...] [--no_check]

`cub.py`, `car.py`, `product.py` and `shop.py` know the formats, `archives.py` reads and extracts, `download.py`
fetches, `layout.py` writes the lists. To add a data set, write one more format file and name it in `__main__.py`.
"""
