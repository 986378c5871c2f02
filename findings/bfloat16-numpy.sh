#!/usr/bin/env bash
# numpy 2.4.6 with ml_dtypes 0.6.0 (the bfloat16 of JAX and TensorFlow), safetensors 0.8.0
#
# Guess: an array of bfloat16 survives np.save and np.load, or np.save refuses it; safetensors, whose format has BF16, gives it back as bfloat16.
# Seen:  np.save writes descr '<V2' and np.load gives an array of raw bytes (dtype |V2): no number in it, no warning on either side; view(bfloat16) brings the numbers
#        back, if one knows. float8_e4m3fn becomes |V1, float8_e5m2 '<f1', and that file np.load refuses altogether. safetensors.numpy.save writes BF16
#        and F8, and its own load then ends with a KeyError.
. "$(dirname "$0")/lib/finding.sh"
pip_install numpy==2.4.6 ml_dtypes==0.6.0 safetensors==0.8.0
cat >round-trip.py <<'END'
import io, warnings
import ml_dtypes, numpy, safetensors.numpy
warnings.simplefilter("error")
for kind in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
    array = numpy.array([1.5, -2], dtype=kind)
    file = io.BytesIO()
    numpy.save(file, array)
    try:
        back = numpy.load(io.BytesIO(file.getvalue()))
        print(f"{array.dtype}: numpy gives back {back.dtype!r}, view gives {back.view(kind).tolist()}")
    except ValueError as error:
        print(f"{array.dtype}: numpy writes a file that it cannot load: {error}")
    written = safetensors.numpy.save({"w": array})
    try:
        print(f"{array.dtype}: safetensors gives back {safetensors.numpy.load(written)['w'].dtype}")
    except KeyError as error:
        print(f"{array.dtype}: safetensors writes {written[8:40].split(b',')[0].decode()} and fails to load it: KeyError: {error}")
END
venv/bin/python round-trip.py >seen
expect 'bfloat16 goes into .npy as raw bytes, and into safetensors only one way' <<'END'
bfloat16: numpy gives back dtype('V2'), view gives [1.5, -2.0]
bfloat16: safetensors writes {"w":{"dtype":"BF16" and fails to load it: KeyError: 'BF16'
float8_e4m3fn: numpy gives back dtype('V1'), view gives [1.5, -2.0]
float8_e4m3fn: safetensors writes {"w":{"dtype":"F8_E4M3" and fails to load it: KeyError: 'F8_E4M3'
float8_e5m2: numpy writes a file that it cannot load: descr is not a valid dtype descriptor: '<f1'
float8_e5m2: safetensors writes {"w":{"dtype":"F8_E5M2" and fails to load it: KeyError: 'F8_E5M2'
END
