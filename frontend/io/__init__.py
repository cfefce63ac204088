"""Input as part of the graph: readers that turn queues of file names into records, and what decodes records. `tw.io`.

    files = tw.train.string_input_producer(["train-*.tfrecord"], num_epochs=3, shuffle=True)
    key, record = tw.io.TFRecordReader().read(files)
    image = tw.io.decode_image(record, size=(28, 28), channels=1)

Everything here runs on the task that holds the files; no data goes through the client.
"""

from thalweg.frontend.io.decoding import (
    FixedFeature,
    VarFeature,
    decode_csv,
    decode_image,
    decode_raw,
    parse_example,
    parse_single_example,
    read_file,
)
from thalweg.frontend.io.readers import (
    CSVReader,
    FixedLengthReader,
    ParquetReader,
    ReaderBase,
    TextLineReader,
    TFRecordReader,
    WholeFileReader,
    matching_files,
)

__all__ = [
    "CSVReader", "FixedFeature", "FixedLengthReader", "ParquetReader", "ReaderBase", "TFRecordReader", "TextLineReader",
    "VarFeature", "WholeFileReader", "decode_csv", "decode_image", "decode_raw", "matching_files", "parse_example",
    "parse_single_example", "read_file",
]  # fmt: skip
