"""Benchmarks of this project against its peers. Run `make bench [AREA=lake]`; see docs/benchmarks.md."""
