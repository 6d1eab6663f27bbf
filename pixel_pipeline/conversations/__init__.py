"""Conversion of raw objects to canonical conversations, with every record accounted for.

`convert.conversion.convert_object` is the entry point. Below it, `containers/` turn bytes into records, and `formats/` turn a record
into messages. A new format is one module, one line in `formats/known.py`, and one test.
"""
