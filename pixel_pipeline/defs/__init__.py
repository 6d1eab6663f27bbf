"""Dagster definitions: a folder an area, each with its assets, checks, jobs, sensors and schedules.

`pixel_pipeline.definitions` loads every module in this folder, so a file written by `dg scaffold defs` is picked up as it is. Modules refer
to each other's definitions by name.
"""
