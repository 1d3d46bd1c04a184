"""Files that Keras wrote, of any version, opened as models of the Keras that runs.

=================  ===================================================================
``kinds``          what a file is
``files``          opens any of them
``table``          what becomes of each class and argument of Keras 2: data
``migration``      the table, applied to a config
``calls``          how configs write down the calls of layers
``operations``     TensorFlow's functions in a config, as ``keras.ops``
``raw_operations`` the same kept as nodes of a graph
``plan``           a config, read and migrated, before anything is made
``graph``          the plan, built
``variables``      which variable each stored tensor belongs to
``compilation``    losses, metrics and optimizers, and the optimizer's state
``assembly``       all of it in order
``h5_file``        HDF5: its attributes and groups
``whole_h5``       HDF5 with a model
``keras1``         configs and tensors of Keras 1, in the form of Keras 2
``keras_file``     ``.keras`` of Keras 2
``saved_model``    SavedModels
``current``        files of Keras 3
=================  ===================================================================

Invariants: nothing is unpickled, no bytecode is run, no module is imported because a file names it; what Keras 3
lacks is refused by name or reported, never left out in silence.
"""
