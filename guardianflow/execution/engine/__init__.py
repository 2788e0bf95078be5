"""papermill under our engine: kernels, cells, pages."""
