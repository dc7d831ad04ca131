#!/usr/bin/env bash
# The short form of faults.sh, for the suite. Arguments: FWL_BINARY SOURCE_DIR.
exec bash "$2/tests/end_to_end/faults.sh" --fwl "$1"
