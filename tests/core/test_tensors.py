import numpy as np

from codegraph_jax.core.tensors import DamagedTensorsError, read_tensors, write_tensors


def test_every_cut_and_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "arrays.safetensors"
    write_tensors(path, {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([True])}, {"of": [1, "x"]})
    content = path.read_bytes()
    arrays, about = read_tensors(path)
    assert about == {"of": [1, "x"]} and arrays["a"].shape == (2, 3)
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1
        for damaged in (content[:place], bytes(flipped)):
            path.write_bytes(damaged)
            try:
                got, said = read_tensors(path)
            except DamagedTensorsError:
                continue
            assert said == about and got.keys() == arrays.keys(), place
            assert all((got[name] == arrays[name]).all() for name in arrays), place
