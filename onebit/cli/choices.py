"""What options may be set to, so that help is shown without importing TensorFlow.

The library has these lists beside what they name; a test compares them.
"""

EVALUATION_PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
TRAINING_PRECISIONS = (*EVALUATION_PRECISIONS, "float64")
EXPORT_FORMATS = ("lce", "tflite", "openvino", "onnx")
EXPORT_PRECISIONS = ("binary", "float32", "float16", "int8")
ENGINES = ("auto", "openvino", "onnx", "lce", "tflite", "keras")
STRATEGIES = ("none", "mirrored", "multiworker")
