"""The limits of every reader of untrusted bytes; docs/security.md has the same table."""

MIB = 2**20

# Files that are read whole.
TEXT_BYTES = 1 * MIB  # a text or JSON file of a work or model folder
TOKENIZER_BYTES = 64 * MIB  # tokenizer.json
TABLE_BYTES = 1024 * MIB  # a table of a data set, such as COCO's captions or metrics.jsonl
INDEX_BYTES = 64 * MIB  # the .index.json of a checkpoint in several files
SHARDS = 1_000  # files that it may name
JSON_DEPTH = 100  # containers inside of one another

# Pickles.
PICKLE_BYTES = 128 * MIB  # the file, or the part of a .pth that is a pickle
PICKLE_STEPS = 20_000_000  # instructions
PICKLE_CONTAINERS = 3_000_000  # lists, tuples, dictionaries and sets
PICKLE_SECONDS = 60  # of processor time
PICKLE_NAMES = 10_000  # functions and classes that it refers to
PICKLE_DEPTH = 100  # containers inside of one another
PICKLE_DIGITS = 1_000  # of a whole number
PICKLE_NODES = 10_000  # values, if its containers were written out each time that they are used,
PICKLE_RATIO = 100  # or so many times the values that it holds, if that is more

# Zip archives (.pth, .npz), and tensors.
ARCHIVE_INDEX_BYTES = 16 * MIB  # the list of its parts
ARCHIVE_RATIO = 20  # times the size of the file, to which its parts may unpack,
ARCHIVE_SPARE_BYTES = 1 * MIB  # besides so many bytes
NPZ_BYTES = 512 * MIB  # to which an .npz may unpack
TENSORS = 100_000
TENSOR_DIMENSIONS = 32
TENSOR_RATIO = 8  # times the stored bytes, that tensors sharing them may take,
TENSOR_SPARE_BYTES = 64 * MIB  # besides so many bytes
TENSOR_NAME = 1_000  # letters
SAFETENSORS_HEADER_BYTES = 16 * MIB

# Texts.
CAPTION_BYTES = 4096  # of UTF-8, in one caption
VOCABULARY = 1_000_000  # entries of a tokenizer
WORD_PIECE_LETTERS = 1_000  # of a word that is divided into pieces

# A child process, in which libraries read parquet files.
CHILD_BYTES = 8 * 1024 * MIB  # of memory
CHILD_SECONDS = 60  # of processor time,
CHILD_SECONDS_PER_VALUE = 1  # besides so many for each row
ROW_BYTES = 256 * MIB  # of a picture in a row
