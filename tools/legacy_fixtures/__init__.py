"""Files of Keras 2 for `tests/test_legacy.py`, written by tf_keras; `python -m tools.legacy_fixtures FOLDER`."""
