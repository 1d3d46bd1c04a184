"""How to make one object of each class of tf_keras, and other values for each of its arguments: data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tf_keras as keras
from tf_keras import layers as L

Arguments = Mapping[str, Any]

SEQUENCE = (5, 3)
IMAGE = (6, 6, 4)
VOLUME = (4, 4, 4, 4)
COLOURS = (8, 8, 3)

LAYERS: Mapping[str, tuple[Arguments, Any]] = {
    "Activation": ({"activation": "tanh"}, (4,)),
    "ActivityRegularization": ({}, (4,)),
    **{name: ({}, [(4,), (4,)]) for name in ("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract")},
    "Concatenate": ({}, [SEQUENCE, SEQUENCE]),
    "Dot": ({"axes": -1}, [(4,), (4,)]),
    "AdditiveAttention": ({}, [SEQUENCE, SEQUENCE]),
    "Attention": ({}, [SEQUENCE, SEQUENCE]),
    "MultiHeadAttention": ({"num_heads": 2, "key_dim": 3}, [SEQUENCE, SEQUENCE]),
    **{
        name: ({"rate": 0.3}, SEQUENCE)
        for name in ("AlphaDropout", "Dropout", "GaussianDropout", "SpatialDropout1D")
    },
    "SpatialDropout2D": ({"rate": 0.3}, IMAGE),
    "SpatialDropout3D": ({"rate": 0.3}, VOLUME),
    "GaussianNoise": ({"stddev": 0.3}, SEQUENCE),
    **{
        f"{kind}Pooling{rank}D": ({}, shape)
        for kind in ("Average", "Max", "GlobalAverage", "GlobalMax")
        for rank, shape in ((1, SEQUENCE), (2, IMAGE), (3, VOLUME))
    },
    "BatchNormalization": ({}, IMAGE),
    "SyncBatchNormalization": ({}, IMAGE),
    "LayerNormalization": ({}, IMAGE),
    "GroupNormalization": ({"groups": 2}, IMAGE),
    "UnitNormalization": ({}, IMAGE),
    "Normalization": ({"mean": 1.5, "variance": 2.0}, IMAGE),
    "Bidirectional": ({"layer": lambda: L.LSTM(3)}, SEQUENCE),
    "TimeDistributed": ({"layer": lambda: L.Dense(3)}, SEQUENCE),
    "RNN": ({"cell": lambda: L.GRUCell(3)}, SEQUENCE),
    "StackedRNNCells": ({"cells": lambda: [L.GRUCell(3), L.LSTMCell(2)]}, SEQUENCE),
    **{
        name: ({"units": 3}, SEQUENCE)
        for name in ("GRU", "LSTM", "SimpleRNN", "GRUCell", "LSTMCell", "SimpleRNNCell")
    },
    "Conv1D": ({"filters": 4, "kernel_size": 2}, (8, 4)),
    "Conv2D": ({"filters": 4, "kernel_size": 2}, IMAGE),
    "Conv3D": ({"filters": 4, "kernel_size": 2}, VOLUME),
    "Conv1DTranspose": ({"filters": 4, "kernel_size": 3}, (8, 4)),
    "Conv2DTranspose": ({"filters": 4, "kernel_size": 3}, IMAGE),
    "Conv3DTranspose": ({"filters": 4, "kernel_size": 3}, VOLUME),
    "DepthwiseConv1D": ({"kernel_size": 2}, (8, 4)),
    "DepthwiseConv2D": ({"kernel_size": 2}, IMAGE),
    "SeparableConv1D": ({"filters": 4, "kernel_size": 2}, (8, 4)),
    "SeparableConv2D": ({"filters": 4, "kernel_size": 2}, IMAGE),
    "ConvLSTM1D": ({"filters": 2, "kernel_size": 2}, (3, 6, 2)),
    "ConvLSTM2D": ({"filters": 2, "kernel_size": 2}, (3, 5, 5, 2)),
    "ConvLSTM3D": ({"filters": 2, "kernel_size": 2}, (2, 4, 4, 4, 2)),
    "LocallyConnected1D": ({"filters": 4, "kernel_size": 2}, (8, 4)),
    "LocallyConnected2D": ({"filters": 4, "kernel_size": 2}, IMAGE),
    "Cropping1D": ({}, SEQUENCE),
    "Cropping2D": ({"cropping": 1}, IMAGE),
    "Cropping3D": ({}, VOLUME),
    "ZeroPadding1D": ({}, SEQUENCE),
    "ZeroPadding2D": ({}, IMAGE),
    "ZeroPadding3D": ({}, VOLUME),
    "UpSampling1D": ({}, SEQUENCE),
    "UpSampling2D": ({}, IMAGE),
    "UpSampling3D": ({}, VOLUME),
    "Dense": ({"units": 3}, (4,)),
    "EinsumDense": ({"equation": "abc,cd->abd", "output_shape": (None, 4), "bias_axes": "d"}, SEQUENCE),
    "Embedding": ({"input_dim": 6, "output_dim": 3}, ("int32", 5)),
    "ELU": ({}, (4,)),
    "LeakyReLU": ({}, (4,)),
    "PReLU": ({}, SEQUENCE),
    "ReLU": ({}, (4,)),
    "Softmax": ({}, SEQUENCE),
    "ThresholdedReLU": ({}, (4,)),
    "Flatten": ({}, SEQUENCE),
    "Identity": ({}, (4,)),
    "Layer": ({}, (4,)),
    "Masking": ({}, SEQUENCE),
    "Permute": ({"dims": (2, 1)}, SEQUENCE),
    "RepeatVector": ({"n": 2}, (4,)),
    "Reshape": ({"target_shape": (3, 5)}, SEQUENCE),
    "CategoryEncoding": ({"num_tokens": 6}, ("int32", 3)),
    "Discretization": ({"bin_boundaries": [-0.5, 0.0, 0.6]}, (4,)),
    "HashedCrossing": ({"num_bins": 5}, [("int64", 1), ("int64", 1)]),
    "Hashing": ({"num_bins": 5}, ("int64", 4)),
    "IntegerLookup": ({"vocabulary": [1, 3, 4]}, ("int64", 3)),
    "StringLookup": ({"vocabulary": ["a", "b", "c"]}, ("string", 3)),
    "TextVectorization": ({"vocabulary": ["the", "cat", "a mat", "cat sat", "e", "t"]}, ("string", 1)),
    "CenterCrop": ({"height": 4, "width": 5}, COLOURS),
    "Rescaling": ({"scale": 0.5}, COLOURS),
    "Resizing": ({"height": 5, "width": 6}, COLOURS),
    "RandomBrightness": ({"factor": 0.2}, COLOURS),
    "RandomContrast": ({"factor": 0.2}, COLOURS),
    "RandomCrop": ({"height": 5, "width": 6}, COLOURS),
    "RandomFlip": ({}, COLOURS),
    "RandomHeight": ({"factor": 0.2}, COLOURS),
    "RandomWidth": ({"factor": 0.2}, COLOURS),
    "RandomRotation": ({"factor": 0.2}, COLOURS),
    "RandomTranslation": ({"height_factor": 0.2, "width_factor": 0.2}, COLOURS),
    "RandomZoom": ({"height_factor": 0.2}, COLOURS),
    "RandomFourierFeatures": ({"output_dim": 3}, (4,)),
}
"""Class -> (arguments to make one, shapes of its inputs, with a dtype first if it is not float32)."""

LISTED: Mapping[str, Arguments] = {
    "InputLayer": {"input_shape": (3,)},
    "Lambda": {"function": abs},
    "SpectralNormalization": {"layer": L.Dense(3)},
}
"""Those of which only the arguments are listed."""

LOOKUPS = ("IntegerLookup", "StringLookup", "TextVectorization")

VALUES: Mapping[str, tuple[Any, ...]] = {
    "activation": ("hard_sigmoid", "swish"),
    "recurrent_activation": ("hard_sigmoid", "sigmoid", "tanh"),
    "activity_regularizer": ("l2",),
    "use_bias": (False,),
    "use_scale": (False, True),
    "center": (False,),
    "scale": (False,),
    "strides": (2,),
    "padding": ("same",),
    "data_format": ("channels_first",),
    "dilation_rate": (2,),
    "groups": (2,),
    "depth_multiplier": (3,),
    "keepdims": (True,),
    "pool_size": (3,),
    "size": (3,),
    "epsilon": (0.1,),
    "momentum": (0.5,),
    "synchronized": (True,),
    "renorm": (True,),
    "fused": (False,),
    "virtual_batch_size": (2,),
    "alpha": (0.6,),
    "dropout": (0.4,),
    "recurrent_dropout": (0.4,),
    "return_sequences": (True,),
    "return_state": (True,),
    "go_backwards": (True,),
    "stateful": (True,),
    "unroll": (True,),
    "time_major": (True,),
    "reset_after": (False,),
    "implementation": (1, 2),
    "unit_forget_bias": (False,),
    "noise_shape": ((None, 1, 3),),
    "seed": (3,),
    "rate": (0.6,),
    "trainable": (False,),
    "dtype": ("float64",),
    "dynamic": (True,),
    "name": ("a/bc",),
    "output_mode": ("int", "multi_hot", "count", "one_hot"),
    "sparse": (True,),
    "invert": (True,),
    "fill_mode": ("reflect", "constant", "nearest", "wrap"),
    "fill_value": (0.5,),
    "interpolation": ("nearest", "bilinear", "bicubic", "area", "lanczos3", "gaussian"),
    "mask_value": (1.0,),
    "axis": (1, (1, 2)),
    "l1": (0.3,),
    "l2": (0.3,),
}
"""Argument -> other values than the default, for every class that has no values of its own."""

VALUES_OF: Mapping[tuple[str, str], tuple[Any, ...]] = {
    ("Activation", "activation"): tuple(
        name
        for name in vars(keras.activations)
        if not name.startswith("_")
        and name not in ("deserialize", "serialize", "get", "softmax")
        and callable(getattr(keras.activations, name))
    ),
    ("Softmax", "axis"): (1, (1, 2)),
    ("UnitNormalization", "axis"): (1, (1, 2)),
    ("Concatenate", "axis"): (1,),
    ("BatchNormalization", "axis"): (1, [3], (1, 3)),
    ("SyncBatchNormalization", "axis"): (1,),
    ("GroupNormalization", "groups"): (1, 4, -1),
    ("GroupNormalization", "axis"): (1,),
    ("LayerNormalization", "axis"): (1, (1, 2), (-1,), (2, 3)),
    ("Normalization", "axis"): (None, -1, 1, (1, 3)),
    ("Normalization", "mean"): (0.5, [1.0, 2.0, 3.0, 4.0]),
    ("Normalization", "variance"): (4.0, [1.0, 2.0, 3.0, 4.0]),
    ("Attention", "score_mode"): ("concat",),
    ("MultiHeadAttention", "value_dim"): (5,),
    ("MultiHeadAttention", "output_shape"): (5, (2, 3)),
    ("MultiHeadAttention", "attention_axes"): (1, (1,)),
    ("MultiHeadAttention", "softmax_robust_masking"): (True,),
    ("Dot", "axes"): (1, (1, 1)),
    ("Dot", "normalize"): (True,),
    ("Bidirectional", "layer"): (
        lambda: L.GRU(3, return_sequences=True),
        lambda: L.RNN(L.SimpleRNNCell(3)),
        lambda: L.LSTM(3, recurrent_activation="hard_sigmoid", return_state=True),
    ),
    ("Bidirectional", "merge_mode"): ("sum", "mul", "ave", None),
    ("Bidirectional", "backward_layer"): (lambda: L.LSTM(3, go_backwards=True, activation="relu"),),
    ("RNN", "cell"): (
        lambda: L.LSTMCell(3, recurrent_activation="hard_sigmoid"),
        lambda: [L.GRUCell(3, reset_after=False), L.SimpleRNNCell(4)],
    ),
    ("StackedRNNCells", "cells"): (lambda: [L.SimpleRNNCell(3, activation="hard_sigmoid")],),
    ("TimeDistributed", "layer"): (lambda: keras.Sequential([L.Dense(4), L.LeakyReLU()]),),
    **{(f"Conv{rank}DTranspose", "output_padding"): (1,) for rank in (1, 2, 3)},
    **{(f"Conv{rank}DTranspose", "strides"): (2, 3) for rank in (1, 2, 3)},
    ("Conv1D", "padding"): ("same", "causal"),
    ("SeparableConv1D", "padding"): ("same", "causal"),
    **{
        (f"ZeroPadding{r}D", "padding"): v
        for r, v in ((1, (2, (0, 2))), (2, (2, (1, 2), ((0, 1), (2, 0)))), (3, (2,)))
    },
    **{
        (f"Cropping{r}D", "cropping"): v for r, v in ((1, (1, (0, 2))), (2, (2, ((0, 1), (2, 0)))), (3, (1,)))
    },
    ("ELU", "alpha"): (0.5,),
    ("PReLU", "shared_axes"): ([1], (1, 2)),
    ("ReLU", "max_value"): (0.5, 6.0),
    ("ReLU", "negative_slope"): (0.2,),
    ("ReLU", "threshold"): (0.5, -0.5),
    ("ThresholdedReLU", "theta"): (0.2, 0.0),
    ("EinsumDense", "equation"): ("abc,dc->abd",),
    ("EinsumDense", "bias_axes"): (None,),
    ("Embedding", "mask_zero"): (True,),
    ("Embedding", "input_length"): (5,),
    ("Embedding", "sparse"): (True,),
    ("Reshape", "target_shape"): ((-1,), (5, -1, 1)),
    ("CategoryEncoding", "output_mode"): ("multi_hot", "count"),
    ("Discretization", "output_mode"): ("int", "multi_hot", "count"),
    ("HashedCrossing", "output_mode"): ("int", "one_hot"),
    ("Hashing", "mask_value"): (1,),
    ("Hashing", "salt"): (5, (3, 4)),
    ("Hashing", "output_mode"): ("int", "multi_hot", "count"),
    **{(name, "max_tokens"): (10,) for name in LOOKUPS},
    **{(name, "pad_to_max_tokens"): (True,) for name in LOOKUPS},
    **{(name, "num_oov_indices"): (0, 3) for name in LOOKUPS[:2]},
    **{(name, "output_mode"): ("int", "multi_hot", "count", "one_hot", "tf_idf") for name in LOOKUPS},
    ("IntegerLookup", "mask_token"): (0, 1),
    ("IntegerLookup", "oov_token"): (-5,),
    ("IntegerLookup", "vocabulary_dtype"): ("int32",),
    ("StringLookup", "mask_token"): ("", "a"),
    ("StringLookup", "oov_token"): ("[OOV]",),
    ("StringLookup", "encoding"): ("latin-1",),
    ("TextVectorization", "standardize"): (None, "lower", "strip_punctuation"),
    ("TextVectorization", "split"): (None, "character"),
    ("TextVectorization", "ngrams"): (2, (1, 3)),
    ("TextVectorization", "output_sequence_length"): (4,),
    ("TextVectorization", "ragged"): (True,),
    ("TextVectorization", "encoding"): ("latin-1",),
    ("Rescaling", "scale"): (2.0, [1.0, 2.0, 3.0]),
    ("Rescaling", "offset"): (1.0, [1.0, 2.0, 3.0]),
    ("Resizing", "crop_to_aspect_ratio"): (True,),
    ("UpSampling2D", "interpolation"): (
        "bilinear",
        "bicubic",
        "area",
        "lanczos3",
        "lanczos5",
        "gaussian",
        "mitchellcubic",
    ),
    ("RandomFlip", "mode"): ("horizontal",),
    ("RandomBrightness", "value_range"): ((0, 1),),
    ("RandomFourierFeatures", "kernel_initializer"): ("laplacian",),
    ("SpatialDropout1D", "noise_shape"): (None,),
    ("SpatialDropout2D", "noise_shape"): (None,),
    ("SpatialDropout3D", "noise_shape"): (None,),
    **{(n, "recurrent_activation"): ("sigmoid", "tanh") for n in ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")},
}

SMOOTH = (0.2,)
LOSSES: Mapping[tuple[str, str], tuple[Any, ...]] = {
    ("*", "reduction"): ("sum", "sum_over_batch_size", "none"),
    ("*", "name"): ("other",),
    ("*", "from_logits"): (True,),
    ("*", "label_smoothing"): SMOOTH,
    ("*", "axis"): (1,),
    ("*", "alpha"): (0.6,),
    ("*", "gamma"): (1.0,),
    ("*", "apply_class_balancing"): (True,),
    ("*", "delta"): (0.1,),
    ("*", "ignore_class"): (1,),
}
METRICS: Mapping[tuple[str, str], tuple[Any, ...]] = {
    **LOSSES,
    ("*", "dtype"): ("float64",),
    ("*", "threshold"): (0.3,),
    ("*", "thresholds"): (0.3, [0.2, 0.7]),
    ("*", "num_thresholds"): (7,),
    ("*", "class_id"): (1,),
    ("*", "top_k"): (2,),
    ("*", "k"): (2,),
    ("*", "average"): ("micro", "macro", "weighted"),
    ("*", "beta"): (2.0,),
    ("*", "ignore_class"): (1,),
    ("*", "sparse_y_pred"): (True, False),
    ("*", "sparse_y_true"): (False,),
    ("*", "target_class_ids"): ([1],),
    ("*", "curve"): ("PR",),
    ("*", "summation_method"): ("minoring", "majoring"),
    ("*", "multi_label"): (True,),
    ("*", "num_labels"): (3,),
    ("*", "class_aggregation"): ("variance_weighted_average", None),
    ("*", "num_regressors"): (1,),
}
METRIC_ARGUMENTS: Mapping[str, Arguments] = {
    "IoU": {"num_classes": 3, "target_class_ids": [0, 2]},
    "MeanIoU": {"num_classes": 3},
    "OneHotIoU": {"num_classes": 3, "target_class_ids": [0, 2]},
    "OneHotMeanIoU": {"num_classes": 3},
    "MeanRelativeError": {"normalizer": [1.0, 2.0, 3.0]},
    "PrecisionAtRecall": {"recall": 0.5},
    "RecallAtPrecision": {"precision": 0.5},
    "SensitivityAtSpecificity": {"specificity": 0.5},
    "SpecificityAtSensitivity": {"sensitivity": 0.5},
}
SPARSE = ("SparseCategoricalCrossentropy", "SparseCategoricalAccuracy", "SparseTopKCategoricalAccuracy")
"""Those whose targets are numbers of classes."""
OPTIMIZERS: Mapping[tuple[str, str], tuple[Any, ...]] = {
    ("*", "learning_rate"): (0.2,),
    ("*", "momentum"): (0.9,),
    ("*", "nesterov"): (True,),
    ("*", "rho"): (0.5,),
    ("*", "epsilon"): (0.1,),
    ("*", "beta_1"): (0.5,),
    ("*", "beta_2"): (0.5,),
    ("*", "beta"): (0.5,),
    ("*", "amsgrad"): (True,),
    ("*", "adaptive_epsilon"): (True,),
    ("*", "centered"): (True,),
    ("*", "weight_decay"): (0.1,),
    ("*", "clipnorm"): (0.1,),
    ("*", "clipvalue"): (0.05,),
    ("*", "global_clipnorm"): (0.1,),
    ("*", "use_ema"): (True,),
    ("*", "ema_momentum"): (0.5,),
    ("*", "ema_overwrite_frequency"): (2,),
    ("*", "jit_compile"): (False,),
    ("*", "name"): ("other",),
    ("*", "initial_accumulator_value"): (0.5,),
    ("*", "learning_rate_power"): (-0.3,),
    ("*", "l1_regularization_strength"): (0.1,),
    ("*", "l2_regularization_strength"): (0.1,),
    ("*", "l2_shrinkage_regularization_strength"): (0.1,),
    ("*", "decay"): (0.3,),
    ("*", "beta_2_decay"): (-0.5,),
    ("*", "epsilon_1"): (1e-3,),
    ("*", "epsilon_2"): (0.1,),
    ("*", "clip_threshold"): (0.5,),
    ("*", "relative_step"): (False,),
}
SCHEDULES: Mapping[str, tuple[Arguments, Arguments]] = {
    "CosineDecay": (
        {"initial_learning_rate": 0.5, "decay_steps": 6},
        {"alpha": 0.3, "warmup_target": 1.0, "warmup_steps": 3, "name": "other"},
    ),
    "CosineDecayRestarts": (
        {"initial_learning_rate": 0.5, "first_decay_steps": 3},
        {"t_mul": 1.5, "m_mul": 0.5, "alpha": 0.3, "name": "other"},
    ),
    "ExponentialDecay": (
        {"initial_learning_rate": 0.5, "decay_steps": 3, "decay_rate": 0.4},
        {"staircase": True, "name": "other"},
    ),
    "InverseTimeDecay": (
        {"initial_learning_rate": 0.5, "decay_steps": 3, "decay_rate": 0.4},
        {"staircase": True, "name": "other"},
    ),
    "PiecewiseConstantDecay": ({"boundaries": [2, 5], "values": [0.5, 0.3, 0.1]}, {"name": "other"}),
    "PolynomialDecay": (
        {"initial_learning_rate": 0.5, "decay_steps": 4},
        {"end_learning_rate": 0.1, "power": 2.0, "cycle": True, "name": "other"},
    ),
}
"""Class -> (arguments to make one, other values of the other arguments)."""
INITIALIZERS: Mapping[tuple[str, str], tuple[Any, ...]] = {
    ("Constant", "value"): (0.5,),
    ("*", "gain"): (2.0,),
    ("*", "mean"): (0.5,),
    ("*", "stddev"): (0.5,),
    ("*", "minval"): (-1.0,),
    ("*", "maxval"): (1.0,),
    ("*", "scale"): (3.0,),
    ("*", "mode"): ("fan_out", "fan_avg"),
    ("*", "distribution"): ("normal", "uniform", "untruncated_normal"),
    ("*", "seed"): (4,),
}
REGULARIZERS: Mapping[tuple[str, str], tuple[Any, ...]] = {
    ("*", "l1"): (0.3,),
    ("*", "l2"): (0.3,),
    ("*", "factor"): (0.3,),
    ("*", "mode"): ("columns",),
}
CONSTRAINTS: Mapping[tuple[str, str], tuple[Any, ...]] = {
    ("*", "max_value"): (0.5,),
    ("*", "min_value"): (0.4,),
    ("*", "rate"): (0.5,),
    ("*", "axis"): (1, [0, 1]),
}

WITH: Mapping[str, Arguments] = {
    "ema_momentum": {"use_ema": True},
    "ema_overwrite_frequency": {"use_ema": True},
    "nesterov": {"momentum": 0.9},
    "warmup_steps": {"warmup_target": 1.0},
    "warmup_target": {"warmup_steps": 3},
    "num_labels": {"multi_label": True},
    "output_padding": {"strides": 2},
    "sparse": {"output_mode": "multi_hot"},
    "pad_to_max_tokens": {"max_tokens": 9, "output_mode": "multi_hot"},
}
"""Arguments without which tf_keras does not take another."""
