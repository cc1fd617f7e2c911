"""Reading weights of strangers: tensors and plain data come out, nothing in the file is run."""

from openmixup.reading.archive import Foreign, Refused
from openmixup.reading.foreign import read_foreign
from openmixup.reading.names import foreign_names
from openmixup.reading.plain import is_finite, load_plain, load_safetensors

__all__ = ['Foreign', 'Refused', 'foreign_names', 'is_finite', 'load_plain', 'load_safetensors', 'read_foreign']
