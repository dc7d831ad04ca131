#!/usr/bin/env bash
# The study of variants in PyTorch: its models are what they say, and RESULTS.md is what its figures give.
set -euo pipefail
peers=$2/tests/benchmarks/peers
python3 -B "$peers/variant_tables.py" --check || { echo "RESULTS.md is not of results/: run $peers/variant_tables.py"; exit 1; }
exec "$2/tests/support/test-python" "$peers/variant_check.py"
