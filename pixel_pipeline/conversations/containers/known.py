"""The registries of containers and archives, in the order they are tried.

A container is a module with `NAME`, `POSITION_KIND`, `IS_TEXT`, `matches(Input) -> Evidence` and `read(Input) -> records`. The
first match reads the object; the last one takes any text. To add one: write its module, add it here, write its test.
"""

from pixel_pipeline.conversations.containers import text_document, yaml_document
from pixel_pipeline.conversations.containers.arrow import arrow_table, parquet_table
from pixel_pipeline.conversations.containers.container import Container
from pixel_pipeline.conversations.containers.csv import csv_table
from pixel_pipeline.conversations.containers.json import json_array, json_document, json_lines
from pixel_pipeline.conversations.containers.packed import word_document
from pixel_pipeline.conversations.containers.packed.archives import TAR, ZIP, Archive
from pixel_pipeline.conversations.containers.packed.workbook import WORKBOOK

CONTAINERS: tuple[Container, ...] = tuple(
    Container(module.NAME, module.POSITION_KIND, module.IS_TEXT, module.matches, module.read)
    for module in (
        parquet_table,
        arrow_table,
        word_document,
        json_lines,
        json_array,
        json_document,
        yaml_document,
        csv_table,
        text_document,
    )
)
ARCHIVES: tuple[Archive, ...] = (WORKBOOK, ZIP, TAR)
