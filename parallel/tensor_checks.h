// What every back end refuses before a byte moves. `operation` names the collective in the message.
#pragma once

#include "core/base/error.h"
#include "core/base/torch.h"
#include "parallel/communicator.h"

namespace fwl {

inline void check_movable(const char* operation, const Tensor& tensor) {
  require<InternalError>(tensor.defined() && tensor.is_contiguous(), operation,
                         " got a tensor that is not contiguous (its elements are not one run of memory). "
                         "Pass tensor.contiguous() and copy the result back.");
}

inline void check_on_device(const char* operation, const Tensor& tensor, at::Device device) {
  check_movable(operation, tensor);
  require<InternalError>(tensor.device() == device, operation, " got a tensor on ", tensor.device().str(),
                         ", but this group moves tensors on ", device.str(),
                         ". Use the group of that device.");
}

inline void check_summable(const char* operation, const Tensor& tensor) {
  const at::ScalarType type = tensor.scalar_type();
  require<InternalError>(
      type == at::kFloat || type == at::kDouble || type == at::kBFloat16 || type == at::kLong, operation,
      " cannot sum ", c10::toString(type), ". Use float32, float64, bfloat16 or int64.");
}

inline void check_root(const char* operation, int root, int size) {
  require<InternalError>(root >= 0 && root < size, operation, " from rank ", root, " in a group of ", size,
                         ".");
}

inline void check_gather(const char* operation, const Tensor& out, const Tensor& in, int size) {
  require<InternalError>(out.scalar_type() == in.scalar_type() && out.numel() == size * in.numel(), operation,
                         " got an output of ", out.numel(), " ", c10::toString(out.scalar_type()), " for ",
                         size, " inputs of ", in.numel(), " ", c10::toString(in.scalar_type()),
                         ". The output holds one input per rank.");
}

inline void check_parts(const char* operation, const Tensor& out, const Tensor& in, int size) {
  check_movable(operation, out);
  check_movable(operation, in);
  require<InternalError>(
      out.scalar_type() == in.scalar_type() && out.numel() == in.numel() && in.numel() % size == 0, operation,
      " got an output of ", out.numel(), " ", c10::toString(out.scalar_type()), " for an input of ",
      in.numel(), " ", c10::toString(in.scalar_type()), " in ", size, " parts. All parts have one size.");
}

inline void check_messages(const char* operation, const std::vector<Message>& sends,
                           const std::vector<Message>& receives, int size) {
  for (const auto* messages : {&sends, &receives}) {
    for (const Message& m : *messages) {
      check_root(operation, m.peer, size);
      check_movable(operation, m.tensor);
    }
  }
  require<InternalError>(size > 1 || sends.size() == receives.size(), operation,
                         " in a group of one: every message is sent and received by the same rank.");
}

}  // namespace fwl
