"""Every private Keras name and version check, nowhere else.

Written against Keras 3.10 to 3.15; names that came later are looked up with a default.
"""

from interop.capture.keras.compat.building import (
    deferred_variables as deferred_variables,
)
from interop.capture.keras.compat.building import (
    finish_layers as finish_layers,
)
from interop.capture.keras.compat.building import (
    initialize as initialize,
)
from interop.capture.keras.compat.building import (
    is_uninitialized as is_uninitialized,
)
from interop.capture.keras.compat.building import (
    linear_sequential as linear_sequential,
)
from interop.capture.keras.compat.building import (
    safe_scope as safe_scope,
)
from interop.capture.keras.compat.building import (
    sharing_scope as sharing_scope,
)
from interop.capture.keras.compat.facts import (
    activation_name as activation_name,
)
from interop.capture.keras.compat.facts import (
    all_layers as all_layers,
)
from interop.capture.keras.compat.facts import (
    attributes as attributes,
)
from interop.capture.keras.compat.facts import (
    automatic_jit_compile as automatic_jit_compile,
)
from interop.capture.keras.compat.facts import (
    automatic_name as automatic_name,
)
from interop.capture.keras.compat.facts import (
    backend as backend,
)
from interop.capture.keras.compat.facts import (
    class_identity as class_identity,
)
from interop.capture.keras.compat.facts import (
    compiles_its_own_way as compiles_its_own_way,
)
from interop.capture.keras.compat.facts import (
    config_keeps_layer_names as config_keeps_layer_names,
)
from interop.capture.keras.compat.facts import (
    current_value as current_value,
)
from interop.capture.keras.compat.facts import (
    dtype_name as dtype_name,
)
from interop.capture.keras.compat.facts import (
    epsilon as epsilon,
)
from interop.capture.keras.compat.facts import (
    flatten as flatten,
)
from interop.capture.keras.compat.facts import (
    functional_structure as functional_structure,
)
from interop.capture.keras.compat.facts import (
    is_functional as is_functional,
)
from interop.capture.keras.compat.facts import (
    is_keras_class as is_keras_class,
)
from interop.capture.keras.compat.facts import (
    is_ragged as is_ragged,
)
from interop.capture.keras.compat.facts import (
    is_sequential as is_sequential,
)
from interop.capture.keras.compat.facts import (
    keras_version as keras_version,
)
from interop.capture.keras.compat.facts import (
    layers_of as layers_of,
)
from interop.capture.keras.compat.facts import (
    layers_with_paths as layers_with_paths,
)
from interop.capture.keras.compat.facts import (
    loaded_keras_class as loaded_keras_class,
)
from interop.capture.keras.compat.facts import (
    lookup_default as lookup_default,
)
from interop.capture.keras.compat.facts import (
    lookup_depth as lookup_depth,
)
from interop.capture.keras.compat.facts import (
    lookup_first_unknown as lookup_first_unknown,
)
from interop.capture.keras.compat.facts import (
    lookup_table as lookup_table,
)
from interop.capture.keras.compat.facts import (
    lookup_weights as lookup_weights,
)
from interop.capture.keras.compat.facts import (
    map_structure as map_structure,
)
from interop.capture.keras.compat.facts import (
    module_of as module_of,
)
from interop.capture.keras.compat.facts import (
    named_layers as named_layers,
)
from interop.capture.keras.compat.facts import (
    optimized_variables as optimized_variables,
)
from interop.capture.keras.compat.facts import (
    output_names as output_names,
)
from interop.capture.keras.compat.facts import (
    own_metrics as own_metrics,
)
from interop.capture.keras.compat.facts import (
    own_variables as own_variables,
)
from interop.capture.keras.compat.facts import (
    pack_like as pack_like,
)
from interop.capture.keras.compat.facts import (
    recorded_shapes as recorded_shapes,
)
from interop.capture.keras.compat.facts import (
    result_type as result_type,
)
from interop.capture.keras.compat.facts import (
    seed_generators as seed_generators,
)
from interop.capture.keras.compat.facts import (
    slot_name as slot_name,
)
from interop.capture.keras.compat.facts import (
    stored_dtype as stored_dtype,
)
from interop.capture.keras.compat.facts import (
    sublayers as sublayers,
)
from interop.capture.keras.compat.facts import (
    takes_mask as takes_mask,
)
from interop.capture.keras.compat.facts import (
    tensor_spec as tensor_spec,
)
from interop.capture.keras.compat.facts import (
    text_settings as text_settings,
)
from interop.capture.keras.compat.facts import (
    to_numpy as to_numpy,
)
from interop.capture.keras.compat.facts import (
    to_tensor as to_tensor,
)
from interop.capture.keras.compat.facts import (
    treats_examples_alone as treats_examples_alone,
)
from interop.capture.keras.compat.facts import (
    with_values as with_values,
)
from interop.capture.keras.compat.tracing import (
    Hooks as Hooks,
)
from interop.capture.keras.compat.tracing import (
    RawFrameworkCall as RawFrameworkCall,
)
from interop.capture.keras.compat.tracing import (
    Sym as Sym,
)
from interop.capture.keras.compat.tracing import (
    TraceScope as TraceScope,
)
from interop.capture.keras.compat.tracing import (
    build_state as build_state,
)
from interop.capture.keras.compat.tracing import (
    call_body as call_body,
)
from interop.capture.keras.compat.tracing import (
    call_code as call_code,
)
from interop.capture.keras.compat.tracing import (
    in_symbolic_layer as in_symbolic_layer,
)
from interop.capture.keras.compat.tracing import (
    mentions as mentions,
)
from interop.capture.keras.compat.tracing import (
    raw_framework as raw_framework,
)
from interop.capture.keras.compat.tracing import (
    restore_build_state as restore_build_state,
)
from interop.capture.keras.compat.tracing import (
    run_symbolic as run_symbolic,
)
from interop.capture.keras.compat.tracing import suspended as suspended
from interop.capture.keras.compat.tracing import (
    tracing as tracing,
)
from interop.capture.keras.compat.tracing import (
    value_of as value_of,
)
from interop.capture.keras.compat.tracing import (
    variable_updates as variable_updates,
)
