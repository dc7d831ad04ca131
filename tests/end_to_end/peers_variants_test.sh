#!/usr/bin/env bash
# The study of variants in PyTorch: its models are what they say, and RESULTS.md is what its figures give.
set -euo pipefail
peers=$2/tests/benchmarks/peers
if ! python3 -B "$peers/variant_tables.py" --check; then
  echo "RESULTS.md is not what results/ gives: run $peers/variant_tables.py"
  exit 1
fi
exec "$2/tests/support/test-python" "$peers/variant_check.py"
