"""What becomes of each class and argument of Keras 2 in Keras 3: data, read by `migration`.

An argument that has no row here keeps its name and value. One that the class of Keras 3 does not take
is left out, and reported as lost.

Source: the constructors of tf_keras 2.21 (https://github.com/keras-team/tf-keras) against those of Keras 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from interop.capture.keras import trackable

ANY = "*"


@dataclass(frozen=True, slots=True)
class Renamed:
    """The same value under another name; reported unless it is about the form only."""

    name: str
    reported: bool = True


@dataclass(frozen=True, slots=True)
class Dropped:
    """Keras 3 does not have it and computes as if it were one of `neutral`; another value is reported.

    Attributes:
        lost: whether it is reported as lost, not only as changed.
    """

    neutral: tuple[Any, ...] = (None, False)
    meaning: str = "Keras 3 has no such argument"
    lost: bool = True


@dataclass(frozen=True, slots=True)
class Ignored:
    """It never changed what is computed: left out without a word."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Keras 3 has no way to compute it, unless it is one of `neutral` or the class takes the argument."""

    feature: str
    neutral: tuple[Any, ...] = (None, False)


@dataclass(frozen=True, slots=True)
class Converted:
    """Another value, made from the old one and the object's arguments.

    The change is reported if `meaning` says something and the value did change.
    """

    convert: Callable[[Any, Mapping[str, Any]], Any]
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Only:
    """Kept if Keras 3 takes the value, once converted; another is refused. What `note` says is reported."""

    accepts: Callable[[Any], bool]
    feature: str
    convert: Callable[[Any, Mapping[str, Any]], Any] = lambda value, arguments: value
    note: Callable[[Any], str] = lambda value: ""


Becomes = Renamed | Dropped | Ignored | Refused | Converted | Only


def _layer(class_name: str, **arguments: Any) -> dict[str, Any]:
    """A layer of Keras 3, as its configs have it."""
    return {
        "module": "keras.layers",
        "class_name": class_name,
        "config": arguments,
        "registered_name": None,
    }


def sequence(name: str, *layers: Mapping[str, Any]) -> dict[str, Any]:
    """One layer that calls others in turn."""
    return {**_layer("Sequential", name=name, layers=list(layers)), "module": "keras"}


def hard_sigmoid(dtype: Any = None) -> dict[str, Any]:
    """``clip(0.2 x + 0.5, 0, 1)``, as Keras 2 computed; Keras 3's own is ``clip(x / 6 + 0.5, 0, 1)``."""
    line = _layer("Rescaling", name="line", scale=0.2, offset=0.5, dtype=dtype)
    clip = _layer("ReLU", name="clip", max_value=1.0, dtype=dtype)
    return _layer("Pipeline", name="hard_sigmoid", layers=[line, clip])


def _activation(value: Any, arguments: Mapping[str, Any]) -> Any:
    if value != "hard_sigmoid":
        return value
    return hard_sigmoid(_policy(arguments.get("dtype"), arguments))


def _single(value: Any, arguments: Mapping[str, Any]) -> Any:
    """``[3]`` -> 3; other values as they are."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _policy(value: Any, arguments: Mapping[str, Any]) -> Any:
    """The name of a dtype policy, for which Keras 2 also has objects."""
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        return value["config"].get("name", value)
    return value


def _function(value: Any, arguments: Mapping[str, Any]) -> Any:
    """A reference to a function by name: by that of the layer, if the file has only its bytecode."""
    name = value if isinstance(value, str) else arguments.get("name")
    if isinstance(value, dict) and value.get("class_name") == "function":
        name = value.get("config")
    return {"module": "builtins", "class_name": "function", "config": name, "registered_name": name}


def _shape(value: Any, arguments: Mapping[str, Any]) -> Any:
    """A shape; None for the bytecode of a function that computes one."""
    plain = isinstance(value, list) and all(size is None or isinstance(size, int) for size in value)
    return value if plain else None


def _learning_rate(value: Any, arguments: Mapping[str, Any]) -> Any:
    """A schedule where the optimizer had ``decay``: ``rate / (1 + decay * iterations)``."""
    decay = arguments.get("decay")
    if not decay or not isinstance(value, int | float):
        return value
    return {
        "module": "keras.optimizers.schedules",
        "class_name": "InverseTimeDecay",
        "config": {"initial_learning_rate": value, "decay_steps": 1, "decay_rate": decay},
        "registered_name": None,
    }


def _output_mode(value: Any, arguments: Mapping[str, Any]) -> Any:
    """Its name since TensorFlow 2.6."""
    return {"binary": "multi_hot", "tf-idf": "tf_idf"}.get(value, value)


def _padded(value: Any, arguments: Mapping[str, Any]) -> Any:
    """Whether counts are padded to as many words as there may be; at first also where that was not known."""
    return bool(value) and arguments.get("max_tokens") is not None


def _number_type(value: Any, arguments: Mapping[str, Any]) -> Any:
    """The type of the numbers of buckets, which was that of every layer before TensorFlow 2.7."""
    is_number = arguments.get("output_mode", "int") == "int" and str(value).startswith("float")
    return "int64" if is_number else _policy(value, arguments)


def _salt(value: Any, arguments: Mapping[str, Any]) -> Any:
    """None where TensorFlow 2.3 to 2.6 wrote down the salt that they do not use."""
    return None if value == [0xDECAFCAFFE] * 2 else value


def _replaced(old: Any, new: Any) -> Converted:
    return Converted(lambda value, arguments: new if value == old else value)


def _cropped(arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Before what cuts the middle out of a picture, which does nothing where a RandomCrop made it that large."""
    size = {key: arguments[key] for key in ("height", "width") if key in arguments}
    middle = _layer(
        "Resizing", name="middle", crop_to_aspect_ratio=True, dtype=arguments.get("dtype"), **size
    )
    return [_layer("RandomCrop", **arguments), middle]


def _flips(arguments: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Two layers that each flip one way; None if one way is all there is."""
    if arguments.get("mode", "horizontal_and_vertical") != "horizontal_and_vertical":
        return None
    seed = arguments.get("seed")
    ways = {"horizontal": seed, "vertical": None if seed is None else seed + 1}
    rest = {key: value for key, value in arguments.items() if key not in ("name", "mode", "seed")}
    return [_layer("RandomFlip", name=way, mode=way, seed=drawn, **rest) for way, drawn in ways.items()]


def _strong_noise(arguments: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Weak noise on what was made smaller, by a power of two, which rounds nothing; None if it is weak itself."""
    deviation = arguments.get("stddev", 0.0)
    if not 1.0 < deviation < math.inf:
        return None
    scale = 2.0 ** math.ceil(math.log2(deviation))
    dtype = arguments.get("dtype")
    rest = {key: value for key, value in arguments.items() if key not in ("name", "stddev")}
    return [
        _layer("Rescaling", name="smaller", scale=1 / scale, offset=0.0, dtype=dtype),
        _layer("GaussianNoise", name="noise", stddev=deviation / scale, **rest),
        _layer("Rescaling", name="larger", scale=scale, offset=0.0, dtype=dtype),
    ]


def _both_ways(value: Any, arguments: Mapping[str, Any]) -> Any:
    """One number as the pair that it stands for."""
    return [value, value] if isinstance(value, int | float) else value


def _rises_as_far(value: Any) -> bool:
    return not isinstance(value, list | tuple) or len(value) != 2 or value[0] <= value[1]


def _wrap_note(value: Any) -> str:
    differs = value == "wrap" and keras.backend.backend() != "tensorflow"
    return "repeats the picture at other places than TensorFlow does" if differs else ""


def _synchronized(value: Any, arguments: Mapping[str, Any]) -> Any:
    return value and keras.backend.backend() == "tensorflow"


def _bicubic_note(value: Any) -> str:
    differs = value == "bicubic" and keras.backend.backend() == "torch"
    return "computed otherwise: PyTorch has another cubic kernel (-0.75, not -0.5)" if differs else ""


_INTERPOLATION = Only(
    ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5").__contains__,
    "that way to resize pictures",
    note=_bicubic_note,
)
_FILL = Only(("constant", "reflect", "wrap", "nearest").__contains__, "that way to fill", note=_wrap_note)
_ACTIVATION = Converted(_activation, "computed as Keras 2 did, 0.2 x + 0.5; Keras 3's own is x / 6 + 0.5")
_TIME_MAJOR = Refused("recurrence over the first dimension")
_RECURRENT = ("RNN", "LSTM", "GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
_LOOKUPS = ("TextVectorization", "StringLookup", "IntegerLookup")
_CONVOLUTIONS = ("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D")
_TRANSPOSED = ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
_RANDOM = [
    "RandomFlip",
    "RandomRotation",
    "RandomZoom",
    "RandomTranslation",
    "RandomContrast",
    "RandomBrightness",
    "RandomCrop",
    "Dropout",
    "GaussianNoise",
    "GaussianDropout",
    "AlphaDropout",
]
_INITIALIZERS = [
    "Zeros",
    "Ones",
    "Constant",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Orthogonal",
    "Identity",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "LecunNormal",
    "LecunUniform",
]

ARGUMENTS: Mapping[tuple[str, str], Becomes] = {
    # every layer
    (ANY, "activation"): _ACTIVATION,
    (ANY, "recurrent_activation"): _ACTIVATION,
    (ANY, "dtype"): Converted(_policy),
    (ANY, "dynamic"): Dropped(),
    (ANY, "trainable"): Dropped((True,)),
    (ANY, "batch_input_shape"): Ignored(),
    (ANY, "implementation"): Ignored(),
    (ANY, "input_dtype"): Ignored(),
    (ANY, "stateful"): Dropped(),
    (ANY, "shared_object_id"): Ignored(),
    # renamed and restricted
    ("LeakyReLU", "alpha"): Renamed("negative_slope"),
    ("ThresholdedReLU", "theta"): Renamed("threshold"),
    ("BatchNormalization", "axis"): Only(
        lambda axis: not isinstance(axis, list), "normalisation over several axes", _single
    ),
    ("BatchNormalization", "renorm"): Refused("batch renormalisation"),
    ("BatchNormalization", "renorm_clipping"): Refused("batch renormalisation"),
    ("BatchNormalization", "renorm_momentum"): Dropped((None, 0.99)),
    ("BatchNormalization", "fused"): Ignored(),
    ("BatchNormalization", "virtual_batch_size"): Refused("statistics of virtual batches"),
    ("BatchNormalization", "adjustment"): Refused("an adjustment of the batch's statistics"),
    ("LayerNormalization", "axis"): Converted(_single),
    ("UpSampling2D", "interpolation"): _INTERPOLATION,
    ("Resizing", "interpolation"): _INTERPOLATION,
    ("RandomRotation", "fill_mode"): _FILL,
    ("RandomTranslation", "fill_mode"): _FILL,
    ("RandomZoom", "fill_mode"): _FILL,
    ("RandomContrast", "factor"): Only(
        _rises_as_far, "contrast that falls farther than it rises", _both_ways
    ),
    ("BatchNormalization", "synchronized"): Converted(
        _synchronized, "not synchronized between devices: Keras 3 does so on TensorFlow only"
    ),
    ("SeparableConv1D", "padding"): Only(
        lambda padding: padding != "causal", "causal padding of separable convolutions"
    ),
    ("Softmax", "axis"): Converted(_single),
    ("Softmax", "robust_masking"): Ignored(),
    ("Embedding", "input_length"): Ignored(),
    ("Embedding", "input_dtype"): Ignored(),
    ("Embedding", "sparse"): Ignored(),
    ("MultiHeadAttention", "softmax_robust_masking"): Ignored(),
    ("MultiHeadAttention", "query_shape"): Ignored(),
    ("MultiHeadAttention", "key_shape"): Ignored(),
    ("MultiHeadAttention", "value_shape"): Ignored(),
    ("Attention", "causal"): Refused("causal=True of the layer; Keras 3 takes use_causal_mask in the call"),
    ("AdditiveAttention", "causal"): Refused(
        "causal=True of the layer; Keras 3 takes use_causal_mask in the call"
    ),
    ("InputLayer", "batch_input_shape"): Renamed("batch_shape", reported=False),
    ("InputLayer", "ragged"): Refused("ragged inputs"),
    ("InputLayer", "type_spec"): Refused("inputs that are no plain tensors"),
    ("Lambda", "function"): Converted(_function),
    ("Lambda", "output_shape"): Converted(_shape),
    ("Lambda", "function_type"): Ignored(),
    ("Lambda", "module"): Ignored(),
    ("Lambda", "output_shape_type"): Ignored(),
    ("Lambda", "output_shape_module"): Ignored(),
    ("Lambda", "mask"): Dropped(),
    ("TextVectorization", "vocabulary_size"): Ignored(),
    ("StringLookup", "vocabulary_size"): Ignored(),
    ("IntegerLookup", "vocabulary_size"): Ignored(),
    **{(name, "pad_to_max_tokens"): Converted(_padded) for name in _LOOKUPS},
    **{(name, "output_mode"): Converted(_output_mode) for name in (*_LOOKUPS, "CategoryEncoding")},
    ("Hashing", "salt"): Converted(_salt),
    ("Hashing", "dtype"): Converted(_number_type),
    ("IntegerLookup", "max_values"): Renamed("max_tokens"),
    ("IntegerLookup", "oov_value"): Renamed("oov_token"),
    ("IntegerLookup", "mask_value"): Renamed("mask_token"),
    ("Discretization", "bins"): Renamed("bin_boundaries"),
    ("CategoryEncoding", "max_tokens"): Renamed("num_tokens"),
    ("RNN", "num_constants"): Refused("constants that an RNN gets in every step", (None, 0)),
    # recurrent layers
    **{(name, "time_major"): _TIME_MAJOR for name in _RECURRENT},
    # arguments of the base class that these never used
    **{
        (name, argument): Ignored()
        for name in _CONVOLUTIONS
        for argument in ("groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint")
    },
    **{(name, "filters"): Ignored() for name in _CONVOLUTIONS[:2]},
    **{(name, "groups"): Refused("groups of a transposed convolution", (None, 1)) for name in _TRANSPOSED},
    # random layers
    **{(name, "rng_type"): Ignored() for name in _RANDOM},
    # initializers, constraints
    **{(name, "dtype"): Ignored() for name in _INITIALIZERS},
    ("VarianceScaling", "distribution"): _replaced("normal", "truncated_normal"),
    # optimizers
    (ANY, "jit_compile"): Ignored(),
    (ANY, "is_legacy_optimizer"): Ignored(),
    (ANY, "adaptive_epsilon"): Dropped(),
    (ANY, "lr"): Renamed("learning_rate"),
    (ANY, "learning_rate"): Converted(
        _learning_rate, "with the optimizer's decay, an InverseTimeDecay schedule"
    ),
    (ANY, "decay"): Ignored(),
    # only the optimizers before TensorFlow 2.11 have a decay
    ("Nadam", "learning_rate"): Converted(lambda value, arguments: value),
    ("Nadam", "decay"): Dropped((), "the momenta follow another schedule in Keras 3: 0.96 ** step"),
    ("RMSprop", "decay"): Dropped(
        (), "without momentum, Keras 3 adds epsilon under the square root, not behind it", lost=False
    ),
    ("Adagrad", "decay"): Dropped(
        (), "Keras 3 adds epsilon under the square root, not behind it", lost=False
    ),
    ("LossScaleOptimizer", "dynamic"): Refused("a loss scale that is not dynamic", (True,)),
    # losses and metrics
    (ANY, "reduction"): _replaced("auto", "sum_over_batch_size"),
    (ANY, "fn"): Ignored(),
    (ANY, "ignore_class"): Dropped(),
}
"""(class, argument) -> what becomes of it.

The class ``*`` is any that has no row of its own. What such a row leaves out or refuses is kept where the class
of Keras 3 takes the argument.
"""

CLASSES: Mapping[str, str] = {
    "ThresholdedReLU": "ReLU",
    "CuDNNLSTM": "LSTM",
    "CuDNNGRU": "GRU",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "LossScaleOptimizerV3": "LossScaleOptimizer",
    "LSTMV2": "LSTM",
    "GRUV2": "GRU",
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "Model": "Functional",
    "Network": "Functional",
    "Container": "Functional",
}
"""Classes under other names."""

ADDED: Mapping[str, Mapping[str, Any]] = {
    "SyncBatchNormalization": {"synchronized": True},
    "CuDNNLSTM": {"recurrent_activation": "sigmoid"},
    "CuDNNGRU": {"recurrent_activation": "sigmoid", "reset_after": True},
    "GRU": {"reset_after": False},
    "GRUCell": {"reset_after": False},
}
"""Arguments that say in Keras 3 what the class alone said before, or what a config did not say yet."""

SEVERAL: Mapping[str, tuple[Callable[[Mapping[str, Any]], list[dict[str, Any]] | None], str]] = {
    "RandomCrop": (
        _cropped,
        "followed by a Resizing that takes the middle, as in Keras 2.9: Keras 3's does nothing where it does not train",
    ),
    "RandomFlip": (
        _flips,
        "where it flips both ways, one for each, as Keras 2 drew for each: Keras 3's turns a picture round or not",
    ),
    "GaussianNoise": (
        _strong_noise,
        "where stddev is over 1, which Keras 3 does not take, on smaller numbers, made larger after it",
    ),
}
"""Classes that several layers compute, made of their arguments, and of which arguments: of others, they stay one."""

REFUSED_CLASSES: Mapping[str, str] = {
    "AddLoss": "a loss added with model.add_loss(tensor)",
    "LocallyConnected1D": "locally connected layers",
    "LocallyConnected2D": "locally connected layers",
    "RandomHeight": "random heights",
    "RandomWidth": "random widths",
    "DenseFeatures": "feature columns",
    "SequenceFeatures": "feature columns",
    "LinearFeatures": "feature columns",
    "PeepholeLSTMCell": "LSTM cells with peepholes",
    "ConvRNN2D": "convolutional recurrence with a cell of its own",
    "RadialConstraint": "radial constraints",
    "RandomFourierFeatures": "random Fourier features",
    "DynamicEmbedding": "vocabularies that change while training",
    "DynamicLookup": "vocabularies that change while training",
    "LinearModel": "ready-made linear models",
    "WideDeepModel": "ready-made wide and deep models",
    "MeanRelativeError": "mean relative error",
    "MeanTensor": "means of tensors",
    "MaxoutDense": "maxout layers of Keras 1",
    "Highway": "highway layers of Keras 1",
}
"""Classes with no counterpart in Keras 3, and what they are."""

LOSSES: Mapping[str, str] = {
    **dict.fromkeys(("mse", "MSE"), "mean_squared_error"),
    **dict.fromkeys(("mae", "MAE"), "mean_absolute_error"),
    **dict.fromkeys(("mape", "MAPE"), "mean_absolute_percentage_error"),
    **dict.fromkeys(("msle", "MSLE"), "mean_squared_logarithmic_error"),
    **dict.fromkeys(("bce", "BCE"), "binary_crossentropy"),
    **dict.fromkeys(("kld", "KLD", "kullback_leibler_divergence", "kl_divergence"), "kl_divergence"),
    **dict.fromkeys(("logcosh", "log_cosh"), "log_cosh"),
    **dict.fromkeys(("huber", "huber_loss"), "huber"),
    **dict.fromkeys(("cosine_proximity", "cosine_similarity", "cosine"), "cosine_similarity"),
}
"""Names of loss and metric functions; one that is not here is called the same."""

VARIABLES: Mapping[str, str] = {"depthwise_kernel": "kernel"}
"""Names of variables; one that is not here is called the same."""

STATES: Mapping[str, str] = {"StateVar": "the state of a random generator"}
"""Variables of Keras 2 that no variable of Keras 3 stands for, and what they are."""

SLOTS: Mapping[str, str] = {
    **trackable.SLOTS,
    "iter": "iterations",
    "iteration": "iterations",
    "momentum_cache": "u_product",
    "current_loss_scale": "dynamic_scale",
    "good_steps": "step_counter",
}
"""Variables of optimizers; one that is not here is called the same."""

SLOTS_OF: Mapping[tuple[str, str], str] = {
    ("Adamax", "v"): "norm",
    ("Adamax", "u"): "norm",
    ("Nadam", "variable"): "u_product",
}
"""Where the class of the optimizer (of Keras 3) decides."""

SLOT_ORDER: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "Adam": (("momentum", "velocity"), ("velocity_hat",)),
    "AdamW": (("momentum", "velocity"), ("velocity_hat",)),
    "Nadam": (("momentum", "velocity"),),
    "Adamax": (("momentum", "norm"),),
    "Adadelta": (("accumulated_grad", "accumulated_delta_var"),),
    "Adagrad": (("accumulator",),),
    "Ftrl": (("accumulator", "linear"),),
    "Lion": (("momentum",),),
    "RMSprop": (("velocity",), ("momentum",), ("average_gradient",)),
    "SGD": (("momentum",),),
}
"""The order in which the optimizers of tf_keras list their variables: groups, each once for every variable."""

OLD_SLOT_ORDER: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "Adam": (("iterations",), ("momentum",), ("velocity",)),
    "Adamax": (("iterations",), ("momentum",), ("norm",)),
    "Nadam": (("iterations",), ("momentum",), ("velocity",)),
    "SGD": (("iterations",), ("momentum",)),
    "Adagrad": (("accumulator",),),
    "Adadelta": (("accumulated_grad",), ("accumulated_delta_var",)),
    "RMSprop": (("velocity",),),
}
"""The same of Keras 1 and of Keras 2 before it was part of TensorFlow, which gave these variables no names."""
