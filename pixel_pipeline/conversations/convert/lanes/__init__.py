"""The column executor: records of one shape converted by Arrow."""
