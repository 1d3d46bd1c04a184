"""The classes of ``tools/legacy_fixtures/subclassed.py``, for Keras 3."""

import keras
from keras import layers as L


@keras.saving.register_keras_serializable("zoo")
class Scale(L.Layer):
    def __init__(self, factor=1.0, **settings):
        super().__init__(**settings)
        self.factor = factor

    def build(self, input_shape):
        self.scale = self.add_weight(name="scale", shape=(input_shape[-1],))

    def call(self, x):
        return x * self.scale * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable("zoo")
class Block(keras.Model):
    def __init__(self, units=3, **settings):
        super().__init__(**settings)
        self.units = units
        self.head = L.Dense(2)
        self.blocks = [L.Dense(units, "tanh"), L.Dense(units, "tanh")]
        self.scale = Scale(2.0)

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(self.scale(x))

    def get_config(self):
        return {"units": self.units}


@keras.saving.register_keras_serializable("zoo")
def cube(x):
    return x * x * x


@keras.saving.register_keras_serializable("zoo")
class Step(L.Layer):
    def __init__(self, units, **settings):
        super().__init__(**settings)
        self.units = self.state_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units))

    def call(self, x, states):
        y = x @ self.kernel + states[0] * 0.5
        return y, [y]

    def get_config(self):
        return {**super().get_config(), "units": self.units}
