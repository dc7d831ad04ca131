// 1-D tensors as HDF5 datasets; bfloat16, which HDF5 does not know, as its 16 bits.
#pragma once

#include <string>

#include "core/base/hdf5.h"
#include "core/base/torch.h"

namespace fwl {

// `elements`: 1-D, contiguous, host. Throws DataError (disk full, ...).
void write_elements(Hdf5File& file, const std::string& dataset, const Tensor& elements);
// Throws DataError when the dataset is missing, damaged, or not `count` elements of `dtype`.
Tensor read_elements(const Hdf5File& file, const std::string& dataset, at::ScalarType dtype, int64_t count);

}  // namespace fwl
