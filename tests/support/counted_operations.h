// How often LibTorch's operations run: for promises such as "once" and "never".
#pragma once

#include <ATen/record_function.h>

#include <map>
#include <string>

namespace fwl {

// Counts on this thread from its construction to its end, one at a time. Names as "aten::mean"; those that an
// operation calls count too.
class CountedOperations {
 public:
  CountedOperations()
      : handle_(at::addThreadLocalCallback(
            at::RecordFunctionCallback(&started).scopes({at::RecordScope::FUNCTION}))) {
    counts().clear();
  }
  ~CountedOperations() { at::removeCallback(handle_); }
  CountedOperations(const CountedOperations&) = delete;
  CountedOperations& operator=(const CountedOperations&) = delete;

  int count(const std::string& name) const {
    const auto found = counts().find(name);
    return found == counts().end() ? 0 : found->second;
  }

 private:
  static std::map<std::string, int>& counts() {
    static thread_local std::map<std::string, int> counted;
    return counted;
  }
  static std::unique_ptr<at::ObserverContext> started(const at::RecordFunction& f) {
    ++counts()[f.name()];
    return nullptr;
  }

  at::CallbackHandle handle_;
};

}  // namespace fwl
