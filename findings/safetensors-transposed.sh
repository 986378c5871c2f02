#!/usr/bin/env bash
# safetensors 0.8.0 with numpy 2.4.6; beside safetensors 0.7.0
#
# Guess: safetensors.numpy.save of a transposed or Fortran-ordered array either writes it in C order, as np.save and tobytes() do, or refuses it, as
#        safetensors.torch does; what load gives back is what was saved.
# Seen:  0.8.0 writes the memory as it lies under the shape of the array: weights.T comes back with its numbers in other places, without an error, and the
#        shape is right. 0.7.0 gave back what was saved. np.ascontiguousarray before saving mends it.
. "$(dirname "$0")/lib/finding.sh"
cat >round-trip.py <<'END'
import numpy, safetensors, safetensors.numpy
weights = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
cases = {"C order": weights, "transposed": weights.T, "Fortran order": numpy.asfortranarray(weights)}
for name, array in cases.items():
    back = safetensors.numpy.load(safetensors.numpy.save({"w": array}))["w"]
    same = "the same" if (back == array).all() else f"{array.tolist()} became {back.tolist()}"
    print(f"safetensors {safetensors.__version__}, {name}: {same}")
for name, array in cases.items():
    back = safetensors.numpy.load(safetensors.numpy.save({"w": numpy.ascontiguousarray(array)}))["w"]
    assert (back == array).all()
END
for version in 0.7.0 0.8.0; do
  pip_install "safetensors==$version" numpy==2.4.6
  venv/bin/python round-trip.py
done >seen
expect 'safetensors 0.8.0 saves a transposed numpy array with its numbers in other places' <<'END'
safetensors 0.7.0, C order: the same
safetensors 0.7.0, transposed: the same
safetensors 0.7.0, Fortran order: the same
safetensors 0.8.0, C order: the same
safetensors 0.8.0, transposed: [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]] became [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
safetensors 0.8.0, Fortran order: [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]] became [[0.0, 3.0, 1.0], [4.0, 2.0, 5.0]]
END
