// How many files this process may have open, and the share of it that data and checkpoint files take.
#pragma once

#include <cstdint>

namespace fwl {

// Raises the soft limit of open files to the hard one (at most 2^20: other libraries close all numbers up to
// it). Once, at the program's start.
void raise_open_file_limit();
// The soft limit; INT64_MAX when there is none.
int64_t open_file_limit();
// How many HDF5 files may be open for reading at once, over all data sets, mixtures and checkpoint readers of
// the process: half of what the limit left free when this was first asked, from 1 to 512.
int64_t open_file_budget();

}  // namespace fwl
