#include "checkpoints/elements.h"

#include <c10/util/Exception.h>

#include <cerrno>

#include "core/base/error.h"
#include "core/base/system_error.h"

namespace fwl {
namespace {

// Calls visit.template operator()<T>(name) with the type that stores `dtype` and its name in HDF5.
template <typename Visit>
void with_storage_type(at::ScalarType dtype, Visit visit) {
  switch (dtype) {
    case at::kFloat:
      return visit.template operator()<float>("float32");
    case at::kDouble:
      return visit.template operator()<double>("float64");
    case at::kBFloat16:
      return visit.template operator()<uint16_t>("uint16");
    case at::kLong:
      return visit.template operator()<int64_t>("int64");
    case at::kByte:
      return visit.template operator()<uint8_t>("uint8");
    default:
      throw InternalError(cat("a checkpoint cannot hold a tensor of type ", c10::toString(dtype)));
  }
}

// LibTorch's own error says nothing about files.
Tensor empty_or_unavailable(int64_t count, at::ScalarType dtype, const std::string& path) {
  try {
    return at::empty({count}, at::TensorOptions().dtype(dtype));
  } catch (const c10::Error&) {
    throw SystemError(ENOMEM, cat(path, " cannot be read: no room for ", count, " elements"));
  }
}

}  // namespace

void write_elements(Hdf5File& file, const std::string& dataset, const Tensor& elements) {
  with_storage_type(elements.scalar_type(), [&]<typename T>(const char*) {
    file.write(dataset, {elements.numel()}, static_cast<const T*>(elements.const_data_ptr()));
  });
}

Tensor read_elements(const Hdf5File& file, const std::string& dataset, at::ScalarType dtype, int64_t count) {
  require<DataError>(file.has(dataset), file.path(), ": dataset '", dataset,
                     "' is missing (the checkpoint is damaged). Use another checkpoint.");
  Tensor out;
  with_storage_type(dtype, [&]<typename T>(const char* name) {
    const auto shape = file.shape(dataset);
    require<DataError>(shape.size() == 1 && shape[0] == count && file.element_type(dataset) == name,
                       file.path(), ": dataset '", dataset, "' is ", at::IntArrayRef(shape), " of ",
                       file.element_type(dataset), ", the manifest says ", count, " of ", name,
                       " (the checkpoint is damaged). Use another checkpoint.");
    out = empty_or_unavailable(count, dtype, file.path());
    file.read_rows(dataset, 0, count, static_cast<T*>(out.mutable_data_ptr()));
  });
  return out;
}

}  // namespace fwl
