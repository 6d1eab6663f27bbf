"""Raw objects become canonical conversations, with every record accounted for.

`conversion.convert_object` is the way in. Below it, two walls: `containers/` turn bytes into records,
`formats/` turn a record into messages. A new format is one file, one line in `formats/__init__.py`, and one
test.
"""
