"""Bytes in, bytes out: the files of an artifact, written atomically and checked before they are used."""
