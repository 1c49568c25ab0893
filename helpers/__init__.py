"""What the notebooks of 4D Forecasting import: one file per step of the course."""

import sys

# TensorFlow 2.20 and 2.21 load their own LLVM with RTLD_GLOBAL, and the first picture that Mesa
# draws afterwards crashes the kernel (tensorflow#124205, pyvista#7943). Later releases no longer
# ship this module; hiding it here does the same.
sys.modules.setdefault("tensorflow.python.pywrap_dlopen_global_flags", None)
