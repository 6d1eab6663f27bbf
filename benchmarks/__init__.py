"""What the project measures, beside its peers. `make bench [AREA=lake]`; how and what is in docs/benchmarks.md."""
