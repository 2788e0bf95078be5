"""Smaller and faster variants of a model, each made by the tool of the runtime that serves it.

The catalogue lists the quantizers without importing a runtime::

    spec = find_quantizer("openvino", "int8")
    calibration = draw_calibration_set(dataset, imgsz=320, count=128, seed=0)
    small = spec.make().quantize(model, calibration, QuantizationOptions(imgsz=320), folder)
"""
