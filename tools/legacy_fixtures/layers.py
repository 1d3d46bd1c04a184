"""Models of one layer or a few: every layer of Keras 2 that Keras 3 has, in the settings that were renamed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tf_keras as keras
from tf_keras import layers as L

SEQUENCE = (5, 3)
IMAGE = (8, 8, 2)
VOLUME = (4, 4, 4, 2)


def stack(shape: tuple[int | None, ...], *layers: Any, dtype: str = "float32") -> Callable[[], Any]:
    """Makes a functional model of layers one after the other, each given as a function that makes it."""

    def build() -> Any:
        start = made = keras.Input(shape, name="x", dtype=dtype)
        for layer in layers:
            made = layer()(made)
        return keras.Model(start, made)

    return build


def two(shape: tuple[int, ...], merge: Callable[[Any, Any], Any], other: Any = None) -> Callable[[], Any]:
    """Makes a model of two inputs."""

    def build() -> Any:
        a, b = keras.Input(shape, name="a"), keras.Input(other or shape, name="b")
        return keras.Model([a, b], merge(a, b))

    return build


def _adapted(layer: Any, data: Any) -> Any:
    layer.adapt(data)
    return layer


def _rnn(layer: str, **settings: Any) -> Callable[[], Any]:
    return stack(SEQUENCE, lambda: getattr(L, layer)(4, **settings))


def _states() -> Any:
    x, h, c = keras.Input(SEQUENCE, name="x"), keras.Input((4,), name="h"), keras.Input((4,), name="c")
    y, h1, c1 = L.LSTM(4, return_sequences=True, return_state=True)(x, initial_state=[h, c])
    return keras.Model([x, h, c], [y, h1, c1])


def _masked() -> Any:
    x = keras.Input((6,), name="x", dtype="int32")
    y = L.Embedding(5, 4, mask_zero=True, input_length=6)(x)
    return keras.Model(x, L.GRU(3, return_sequences=False)(y))


CORE: dict[str, Callable[[], Any]] = {
    "dense": stack((4,), lambda: L.Dense(3, "relu", kernel_regularizer="l2", bias_constraint="non_neg")),
    "dense_initializers": stack(
        (4,),
        lambda: L.Dense(
            4,
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "uniform"),
            kernel_regularizer=keras.regularizers.L1L2(0.1, 0.2),
            kernel_constraint=keras.constraints.MaxNorm(2),
        ),
        lambda: L.Dense(4, kernel_initializer=keras.initializers.Identity(0.5), activity_regularizer="l1"),
        lambda: L.Dense(3, kernel_initializer=keras.initializers.Orthogonal(2.0, seed=1)),
    ),
    "embedding": stack((6,), lambda: L.Embedding(5, 4, input_length=6), lambda: L.Flatten(), dtype="int32"),
    "einsum_dense": stack((5, 4), lambda: L.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d")),
    "reshaping": stack(
        (4, 6),
        lambda: L.Permute((2, 1)),
        lambda: L.Reshape((4, 6)),
        lambda: L.Cropping1D(1),
        lambda: L.ZeroPadding1D(2),
        lambda: L.UpSampling1D(2),
        lambda: L.Flatten(data_format="channels_last"),
        lambda: L.RepeatVector(2),
    ),
    "masking": stack(SEQUENCE, lambda: L.Masking(0.0), lambda: L.SimpleRNN(3)),
    "noise": stack(
        SEQUENCE,
        lambda: L.GaussianNoise(0.1),
        lambda: L.GaussianDropout(0.1),
        lambda: L.AlphaDropout(0.1, noise_shape=None),
        lambda: L.Dropout(0.2, noise_shape=(None, 1, 3), seed=4),
        lambda: L.SpatialDropout1D(0.1),
        lambda: L.ActivityRegularization(0.1, 0.2),
        lambda: L.Dense(2),
    ),
    "activations": stack(
        (6,),
        lambda: L.LeakyReLU(alpha=0.2),
        lambda: L.PReLU(),
        lambda: L.ELU(0.5),
        lambda: L.ReLU(max_value=3.0, negative_slope=0.1, threshold=0.1),
        lambda: L.Softmax(axis=[-1]),
    ),
    "thresholded_relu": stack((6,), lambda: L.ThresholdedReLU(theta=0.3)),
    "hard_sigmoid": stack((6,), lambda: L.Dense(5, "hard_sigmoid"), lambda: L.Activation("hard_sigmoid")),
    "activation_names": stack(
        (6,),
        lambda: L.Dense(5, "swish"),
        lambda: L.Dense(5, keras.activations.gelu),
        lambda: L.Dense(5, "mish"),
        lambda: L.Activation("softsign"),
        lambda: L.Activation("exponential"),
    ),
    "mixed_precision": stack((4,), lambda: L.Dense(4, dtype="mixed_float16"), lambda: L.Dense(2)),
    "mixed_policy_object": stack(
        (4,), lambda: L.Dense(4, dtype=keras.mixed_precision.Policy("mixed_bfloat16")), lambda: L.Dense(2)
    ),
    "float64": stack((4,), lambda: L.Dense(3, dtype="float64")),
}

CONVOLUTION: dict[str, Callable[[], Any]] = {
    "conv1d": stack(SEQUENCE, lambda: L.Conv1D(4, 3, padding="causal", dilation_rate=2)),
    "conv2d": stack(
        IMAGE, lambda: L.Conv2D(4, 3, 2, "same", groups=2, activation="relu"), lambda: L.Flatten()
    ),
    "conv3d": stack(VOLUME, lambda: L.Conv3D(3, 2), lambda: L.GlobalMaxPooling3D()),
    "conv2d_transpose": stack(IMAGE, lambda: L.Conv2DTranspose(3, 3, 2, "same", output_padding=1)),
    "conv1d_transpose": stack(SEQUENCE, lambda: L.Conv1DTranspose(3, 2, 2)),
    "conv3d_transpose": stack(VOLUME, lambda: L.Conv3DTranspose(2, 2, 2), lambda: L.GlobalAveragePooling3D()),
    "depthwise_conv2d": stack(
        IMAGE, lambda: L.DepthwiseConv2D(3, depth_multiplier=2, depthwise_regularizer="l2")
    ),
    "depthwise_conv1d": stack(SEQUENCE, lambda: L.DepthwiseConv1D(2, depth_multiplier=2, activation="tanh")),
    "separable_conv2d": stack(IMAGE, lambda: L.SeparableConv2D(4, 3, depth_multiplier=2)),
    "separable_conv1d": stack(SEQUENCE, lambda: L.SeparableConv1D(4, 2, padding="same")),
    "pooling": stack(
        IMAGE,
        lambda: L.MaxPooling2D(2, 1),
        lambda: L.AveragePooling2D(2, 1, "same"),
        lambda: L.Cropping2D(1),
        lambda: L.ZeroPadding2D(1),
        lambda: L.UpSampling2D(2, interpolation="bilinear"),
        lambda: L.SpatialDropout2D(0.2),
        lambda: L.GlobalAveragePooling2D(keepdims=True),
    ),
    "pooling3d": stack(
        VOLUME,
        lambda: L.MaxPooling3D(2, 1),
        lambda: L.ZeroPadding3D(1),
        lambda: L.Cropping3D(1),
        lambda: L.UpSampling3D(2),
        lambda: L.AveragePooling3D(2),
        lambda: L.SpatialDropout3D(0.2),
        lambda: L.Flatten(),
    ),
    "pooling1d": stack(
        SEQUENCE, lambda: L.MaxPooling1D(2, 1), lambda: L.AveragePooling1D(2), lambda: L.GlobalMaxPooling1D()
    ),
}

NORMALIZATION: dict[str, Callable[[], Any]] = {
    "batch_normalization": stack(
        IMAGE, lambda: L.BatchNormalization(axis=[3], momentum=0.9), lambda: L.Flatten()
    ),
    "batch_normalization_fused": stack((4,), lambda: L.BatchNormalization(scale=False), lambda: L.Dense(2)),
    "layer_normalization": stack(
        SEQUENCE, lambda: L.LayerNormalization(axis=-1), lambda: L.LayerNormalization([1, 2])
    ),
    "group_normalization": stack(SEQUENCE, lambda: L.Dense(6), lambda: L.GroupNormalization(3)),
    "batch_renormalization": stack((4,), lambda: L.BatchNormalization(renorm=True), lambda: L.Dense(2)),
    "unit_normalization": stack((4,), lambda: L.UnitNormalization(), lambda: L.Dense(2)),
}

RECURRENT: dict[str, Callable[[], Any]] = {
    "lstm": _rnn("LSTM", return_sequences=True),
    "lstm_hard_sigmoid": _rnn("LSTM", recurrent_activation="hard_sigmoid"),
    "lstm_options": _rnn(
        "LSTM", go_backwards=True, unroll=True, use_bias=False, implementation=1, dropout=0.1
    ),
    "lstm_unit_forget": _rnn("LSTM", unit_forget_bias=False, recurrent_dropout=0.2, kernel_regularizer="l2"),
    "lstm_states": _states,
    "lstm_stateful": lambda: keras.Sequential(
        [L.LSTM(4, stateful=True, batch_input_shape=(2, 5, 3)), L.Dense(2)]
    ),
    "gru": _rnn("GRU", return_sequences=True),
    "gru_reset_before": _rnn("GRU", reset_after=False, recurrent_activation="hard_sigmoid"),
    "gru_masked": _masked,
    "simple_rnn": _rnn("SimpleRNN", activation="relu"),
    "rnn_cells": stack(SEQUENCE, lambda: L.RNN([L.LSTMCell(3), L.GRUCell(4)], return_sequences=True)),
    "rnn_cell": stack(SEQUENCE, lambda: L.RNN(L.SimpleRNNCell(3), go_backwards=True)),
    "rnn_stacked_cells": stack(
        SEQUENCE, lambda: L.RNN(L.StackedRNNCells([L.GRUCell(3), L.SimpleRNNCell(2)]))
    ),
    "bidirectional": stack(SEQUENCE, lambda: L.Bidirectional(L.LSTM(3, return_sequences=True))),
    "bidirectional_layers": stack(
        SEQUENCE,
        lambda: L.Bidirectional(L.GRU(3), backward_layer=L.LSTM(3, go_backwards=True), merge_mode="sum"),
    ),
    "bidirectional_rnn": stack(SEQUENCE, lambda: L.Bidirectional(L.RNN(L.GRUCell(3)), merge_mode="ave")),
    "time_distributed": stack(
        (4, *IMAGE), lambda: L.TimeDistributed(L.Conv2D(3, 3)), lambda: L.TimeDistributed(L.Flatten())
    ),
    "conv_lstm2d": stack((3, *IMAGE), lambda: L.ConvLSTM2D(3, 3, return_sequences=True)),
    "conv_lstm1d": stack(
        (3, 6, 2), lambda: L.ConvLSTM1D(3, 3, padding="same", recurrent_activation="sigmoid")
    ),
    "conv_lstm3d": stack((2, *VOLUME), lambda: L.ConvLSTM3D(2, 2), lambda: L.Flatten()),
}

ATTENTION: dict[str, Callable[[], Any]] = {
    "multi_head_attention": two(SEQUENCE, lambda a, b: L.MultiHeadAttention(2, 3)(a, b)),
    "multi_head_attention_options": two(
        SEQUENCE,
        lambda a, b: L.MultiHeadAttention(2, 3, value_dim=2, dropout=0.1, use_bias=False, output_shape=5)(
            query=a, value=b, key=a, return_attention_scores=True
        ),
    ),
    "attention": two(SEQUENCE, lambda a, b: L.Attention(use_scale=True)([a, b])),
    "attention_concat": two(SEQUENCE, lambda a, b: L.Attention(score_mode="concat", dropout=0.1)([a, b])),
    "additive_attention": two(SEQUENCE, lambda a, b: L.AdditiveAttention()([a, b, a])),
}

MERGING: dict[str, Callable[[], Any]] = {
    "merging": two(
        (4,),
        lambda a, b: L.Concatenate()(
            [
                L.Add()([a, b]),
                L.Subtract()([a, b]),
                L.Multiply()([a, b]),
                L.Average()([a, b]),
                L.Maximum()([a, b]),
                L.Minimum()([a, b]),
                L.Dot(axes=-1, normalize=True)([a, b]),
            ]
        ),
    ),
}

PREPROCESSING: dict[str, Callable[[], Any]] = {
    "normalization": stack(
        (3,), lambda: _adapted(L.Normalization(), [[1.0, 2.0, 3.0], [2.0, 5.0, 1.0], [0.0, 1.0, 4.0]])
    ),
    "normalization_given": stack(
        (3,), lambda: L.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 2.0])
    ),
    "image_preprocessing": stack(
        IMAGE,
        lambda: L.Rescaling(0.5, offset=-1.0),
        lambda: L.Resizing(6, 6),
        lambda: L.CenterCrop(4, 4),
        lambda: L.Flatten(),
    ),
    "image_augmentation": stack(
        (8, 8, 3),
        lambda: L.RandomFlip("horizontal", seed=1),
        lambda: L.RandomRotation(0.1),
        lambda: L.RandomZoom(0.1, 0.2),
        lambda: L.RandomTranslation(0.1, 0.1),
        lambda: L.RandomContrast(0.2),
        lambda: L.RandomBrightness(0.2),
        lambda: L.GlobalAveragePooling2D(),
        lambda: L.Dense(2),
    ),
    "random_crop": stack((8, 8, 3), lambda: L.RandomCrop(5, 6), lambda: L.Flatten()),
    "integer_lookup_tf_idf": stack(
        (3,),
        lambda: L.IntegerLookup(vocabulary=[1, 3, 4], output_mode="tf_idf", idf_weights=[0.5, 0.2, 0.1]),
        dtype="int64",
    ),
    "discretization": stack((3,), lambda: L.Discretization(bin_boundaries=[-0.5, 0.0, 0.5])),
    "category_encoding": stack((3,), lambda: L.CategoryEncoding(5, output_mode="multi_hot"), dtype="int32"),
    "integer_lookup": stack((3,), lambda: L.IntegerLookup(vocabulary=[1, 3, 4]), dtype="int64"),
    "hashing": stack((3,), lambda: L.Hashing(4, salt=[11, 7]), dtype="int64"),
}

FAMILIES = (
    CORE,
    CONVOLUTION,
    NORMALIZATION,
    RECURRENT,
    ATTENTION,
    MERGING,
    PREPROCESSING,
)
