// The trainable parameters of a model: named views into ONE flat tensor, with their gradients in another.
//
// Flat storage makes the gradient all-reduce, the norm, the optimizer and the checkpoint work on a few large
// slices without copies. Parameters are ordered by group, so that each group is one contiguous slice.
//
// Where the matrix products run in a narrower dtype than the parameters are kept in, all but the step sizes
// have a copy in that dtype, flat as well: it is what a forward reads and what a backward differentiates.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/range.h"
#include "core/base/torch.h"

namespace fwl {

// How the optimizer treats a parameter.
enum class ParameterGroup {
  kDecay,     // matrices: weight decay
  kNoDecay,   // norms, biases, gains
  kStepSize,  // inner step sizes and decays: no weight decay, own learning-rate factor
};
constexpr int kParameterGroups = 3;

// Gradients of rows of a table that a backward has left, to be added to the table's when it is collected: of
// a lookup of n rows a tensor of the table's size would be next to nothing but zeros. An autograd function
// keeps it.
struct RowGradients : torch::CustomClassHolder {
  struct Lookup {
    Tensor index_n, row_bar_nd;
  };
  std::vector<Lookup> waiting;
};

struct Parameter {
  std::string name;
  ParameterGroup group;
  Tensor value;     // view of the flat values; its grad() is `gradient`. Undefined once they are released
  Tensor gradient;  // view of the flat gradients
  Tensor leaf;      // what graphs are made of: `value`, or its copy in the compute dtype
  int64_t offset;   // first element in the flat tensor
  // Where lookups of its rows leave their gradients; null where its gradient is no copy's.
  c10::intrusive_ptr<RowGradients> rows;
  bool has_copy() const { return !leaf.is_same(value); }
};

// Where a parameter is in Parameters::all(): found by name once, not in every forward.
using ParameterIndex = int64_t;
constexpr ParameterIndex kNoParameter = -1;  // the model has none of that name

class Parameters {
 public:
  Parameters();
  ~Parameters();
  Parameters(const Parameters&) = delete;
  Parameters& operator=(const Parameters&) = delete;

  // Declares a parameter with its initial value (CPU, any float dtype). Names are unique. Before `build`
  // only.
  void declare(const std::string& name, ParameterGroup group, const Tensor& initial);
  // Lays all declared parameters out on `device` in `dtype`, with copies in `compute`. Once.
  void build(at::Device device, at::ScalarType dtype, at::ScalarType compute);
  void build(at::Device device, at::ScalarType dtype) { build(device, dtype, dtype); }

  const Tensor& operator[](
      const std::string& name) const;                 // the value; throws InternalError for an unknown name
  const Tensor& leaf(const std::string& name) const;  // likewise
  bool has(const std::string& name) const { return index_.count(name) > 0; }
  ParameterIndex index_of(const std::string& name) const;  // or kNoParameter
  const Parameter& at(ParameterIndex index) const { return parameters_[static_cast<size_t>(index)]; }
  const Tensor& value(ParameterIndex index) const;  // throws InternalError where it is another rank's
  const std::vector<Parameter>& all() const { return parameters_; }
  int64_t count() const { return gradients_.numel(); }
  at::ScalarType compute_type() const { return (copies_.defined() ? copies_ : values_).scalar_type(); }

  Tensor& values();     // flat, [count()]; throws InternalError once they are released
  Tensor& gradients();  // flat; every parameter's grad() is a view of it
  ElementRange range_of(ParameterGroup group) const;
  // Of parameters with copies the zeros are written when somebody looks: by gradients(), finish_gradients()
  // or backward(), if no gradient has come by then.
  void zero_gradients();

  // Before every forward that reads the copies: they take the values if these may have changed, which is to
  // say after values() or an operation on a value. (Whoever writes values by their address asks for values()
  // anew.)
  void refresh_copies() const;
  // The copies of these elements, which are a part of one group, to be written together with values();
  // undefined where there are none, or where values are released.
  Tensor copies_of(const ElementRange& range) const;
  // Whether the copies have the values that they stand for; and the word that all have been written, after
  // values().
  bool has_fresh_copies() const { return copies_.defined() && copied_version_ == values_._version(); }
  void copies_are_fresh() { copied_version_ = values_._version(); }
  // gradients() += what a backward left in the copies of parameters [first, last), which is freed: their
  // gradients are whole then, if no more are to come. A backward takes up itself what has come whenever that
  // is much.
  void finish_gradients(size_t first, size_t last);
  // Differentiates and collects the rest.
  void backward(const Tensor& objective);

  // Another one after each change of the weights (values() counts as one); none where they change without a
  // trace, since other ranks write them.
  struct Revision {
    uint32_t values, copies;
    int64_t writes;
    bool operator==(const Revision&) const = default;
  };
  std::optional<Revision> revision() const;

  // With copies: gives up the values of elements [0, end), end <= count of the copied ones. The copies are
  // what this rank has of them then, and store() is how they change; whoever computes the values keeps them.
  void release_values(int64_t end);
  int64_t released() const { return released_; }
  // Elements [first, first + values.numel()) take these values, as far as they are kept, or their copies do.
  void store(int64_t first, const Tensor& values);
  // Flat: the copies of elements [0, released()), and the values of the rest.
  const Tensor& copies() const { return copies_; }
  const Tensor& kept_values() const { return values_; }

 private:
  class CollectHook;
  // What lies in a parameter's part of gradients_: of the step before, to be written over; or this one's.
  enum class Held : char { kLeftover, kZero, kSum };
  const Parameter& find(const std::string& name) const;
  void collect_gradients(size_t first, size_t last);
  void clear_leftovers(size_t first, size_t last);
  void add_waiting_rows(size_t parameter);
  struct Declared {
    std::string name;
    ParameterGroup group;
    Tensor initial;
  };
  std::vector<Declared> declared_;
  std::vector<Parameter> parameters_;
  std::map<std::string, size_t> index_;
  int64_t group_begin_[kParameterGroups + 1] = {};
  Tensor values_;  // of the elements from released_ on
  Tensor gradients_;
  int64_t released_ = 0;
  Tensor copies_;                                   // flat, of the first groups; undefined without copies
  mutable std::optional<uint32_t> copied_version_;  // of values_; none: it may have changed
  int64_t writes_ = 0;                              // calls of values()
  std::vector<Held> held_;                          // of each parameter
  int64_t waiting_bytes_ = 0;                       // of gradients in the copies
  std::vector<std::shared_ptr<torch::autograd::Node>> accumulators_;  // they hold the hooks
};

}  // namespace fwl
