#include "launch/golden.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/hdf5.h"
#include "core/fast_weight/layer.h"

namespace fwl {
namespace {

// The file's parameters as leaves, and what the layer is built from.
class GoldenFile {
 public:
  GoldenFile(const std::string& path, at::Device device, at::ScalarType dtype)
      : file_(Hdf5File::open(path, "golden file")),
        options_(at::TensorOptions().dtype(dtype).device(device)) {
    residual_ = file_.has_attribute("variant") && file_.string_attribute("variant") == "residual";
    require<DataError>(residual_ || !file_.has_attribute("variant"), path, ": attribute variant = '",
                       file_.has_attribute("variant") ? file_.string_attribute("variant") : "",
                       "' is unknown. Known are 'residual' and none (the official form).");
  }

  bool residual() const { return residual_; }
  const Hdf5File& file() const { return file_; }
  double attribute(const std::string& name) const {
    require<DataError>(file_.has_attribute(name), file_.path(), ": attribute '", name,
                       "' is missing (it is no golden file). Check the file.");
    return file_.number_attribute(name);
  }

  Tensor array(const std::string& name) const {
    const auto values = file_.read<double>(name);
    return at::tensor(values, at::kDouble).view(file_.shape(name)).to(options_);
  }
  Tensor integers(const std::string& name) const {
    return at::tensor(file_.read<int64_t>(name), at::kLong).view(file_.shape(name)).to(options_.device());
  }
  // A leaf whose gradient is compared with gradients/<gradient>.
  Tensor leaf(const Tensor& value, const std::string& gradient) {
    Tensor tensor = value.detach().clone().requires_grad_(true);
    leaves_.push_back({gradient, tensor});
    return tensor;
  }
  Tensor parameter(const std::string& name) { return leaf(array("parameters/" + name), name); }
  // Kernels are stored [in, out]; the layer wants [out, in].
  Tensor kernel(const std::string& name) { return parameter(name + "/kernel").t(); }

  const std::vector<std::pair<std::string, Tensor>>& leaves() const { return leaves_; }

 private:
  Hdf5File file_;
  at::TensorOptions options_;
  bool residual_ = false;
  std::vector<std::pair<std::string, Tensor>> leaves_;
};

FastWeightOptions layer_options(const GoldenFile& golden, int64_t chunk) {
  FastWeightOptions o;
  o.chunk = chunk;
  o.norm_epsilon = golden.attribute("norm_epsilon");
  const double normaliser = golden.attribute("inner_loss_normaliser");
  require<DataError>(normaliser > 0, golden.file().path(), ": inner_loss_normaliser = ", normaliser,
                     " is not positive. Check the file.");
  o.inner_loss_scale = 1.0 / normaliser;
  o.residual = golden.residual();
  o.fast_norm = !golden.residual();
  o.second_order =
      !golden.file().has_attribute("second_order") || golden.file().integer_attribute("second_order") != 0;
  return o;
}

FastWeightWeights layer_weights(GoldenFile& golden) {
  FastWeightWeights w;
  w.dense1_fd = golden.kernel("dense1");
  w.dense1_bias_f = golden.parameter("dense1/bias");
  w.dense2_df = golden.kernel("dense2");
  w.dense2_bias_d = golden.parameter("dense2/bias");
  w.norm_scale_d = golden.parameter("norm/scale");
  w.norm_bias_d = golden.parameter("norm/bias");
  w.unembedding.weight_vd = golden.kernel("unembed").contiguous();
  if (golden.file().has("parameters/unembed/bias")) w.unembedding.bias_v = golden.parameter("unembed/bias");
  if (golden.residual()) {
    w.input_norm_scale_d = golden.parameter("input_norm/scale");
    w.input_norm_bias_d = golden.parameter("input_norm/bias");
    const auto logarithm = [&](const std::string& group, const std::string& layer) {
      return golden.leaf(golden.array("parameters/" + group + "/" + layer).log(),
                         "log_" + group + "/" + layer);
    };
    w.step_size1 = logarithm("step_size", "dense1").exp();
    w.step_size2 = logarithm("step_size", "dense2").exp();
    w.log_decay1 = logarithm("decay", "dense1");
    w.log_decay2 = logarithm("decay", "dense2");
  } else {
    w.step_size1 = golden.parameter("step_size/dense1");
    w.step_size2 = golden.parameter("step_size/dense2");
    w.step_size_norm = golden.parameter("step_size/norm");
    w.log_decay1 = w.log_decay2 = w.log_decay_norm =
        at::zeros({}, w.step_size1.options().requires_grad(false));
  }
  return w;
}

double relative_error(const Tensor& ours, const Tensor& golden) {
  const Tensor difference = (ours.detach().to(at::kDouble) - golden.to(at::kDouble)).abs();
  const double magnitude = golden.abs().max().item<double>();
  const double error = difference.max().item<double>();
  // An array of zeros has no magnitude to compare with: its error counts as it is.
  return magnitude > 0 ? error / magnitude : error;
}

void check_shapes(const GoldenFile& golden, const FastWeightWeights& w, const Tensor& hidden,
                  const LossTokens& tokens) {
  const auto fits = [&](bool condition, const char* what) {
    require<DataError>(condition, golden.file().path(), ": ", what, " does not fit input/hidden ",
                       hidden.sizes(), " (the arrays contradict each other). Check the file.");
  };
  fits(hidden.dim() == 3, "input/hidden");
  fits(tokens.label_bt.sizes() == hidden.sizes().slice(0, 2), "input/labels");
  fits(tokens.weight_bt.sizes() == hidden.sizes().slice(0, 2), "input/loss_weights");
  fits(w.dense1_fd.dim() == 2 && w.dense1_fd.size(1) == hidden.size(2), "parameters/dense1/kernel");
  fits(w.dense2_df.dim() == 2 && w.dense2_df.size(1) == w.dense1_fd.size(0), "parameters/dense2/kernel");
  fits(w.unembedding.weight_vd.dim() == 2 && w.unembedding.weight_vd.size(1) == w.dense2_df.size(0),
       "parameters/unembed/kernel");
  const int64_t vocabulary = w.unembedding.weight_vd.size(0);
  fits(tokens.label_bt.min().item<int64_t>() >= 0 && tokens.label_bt.max().item<int64_t>() < vocabulary,
       "a label outside the vocabulary");
}

}  // namespace

double GoldenReport::worst() const {
  double worst = 0;
  for (const ArrayError& e : errors) worst = std::isnan(e.error) || e.error > worst ? e.error : worst;
  return worst;
}

bool GoldenReport::passed() const {
  return !errors.empty() &&
         std::all_of(errors.begin(), errors.end(), [&](const ArrayError& e) { return e.error <= tolerance; });
}

GoldenReport verify_golden(const std::string& path, at::Device device, at::ScalarType dtype, int64_t chunk) {
  GoldenFile golden(path, device, dtype);
  const Tensor hidden_btd = golden.leaf(golden.array("input/hidden"), "hidden");
  const FastWeightOptions options = layer_options(golden, chunk);
  const FastWeightWeights weights = layer_weights(golden);
  LossTokens tokens{golden.integers("input/labels"), golden.array("input/loss_weights"), {}};
  if (golden.file().has("input/document_start"))
    tokens.document_start_bt = golden.integers("input/document_start").to(at::kBool);
  check_shapes(golden, weights, hidden_btd, tokens);

  const FastWeightResult layer = fast_weight_layer(weights, options, hidden_btd, tokens, {});
  const Tensor weight_n = (tokens.weight_bt / tokens.weight_bt.sum()).flatten();
  const OuterLoss loss = outer_loss(layer.fast_normed_btd.flatten(0, 1), weights.unembedding,
                                    tokens.label_bt.flatten(), weight_n);
  loss.total.backward();

  GoldenReport report{
      path, dtype == at::kDouble ? "float64" : "float32", dtype == at::kDouble ? 1e-9 : 2e-4, {}};
  const auto compare = [&](const std::string& name, const Tensor& ours) {
    report.errors.push_back({name, relative_error(ours.cpu(), golden.array(name).cpu().view(ours.sizes()))});
  };
  const auto logits = [&](const Tensor& normed) {
    return logits_of(normed.flatten(0, 1), weights.unembedding)
        .view({hidden_btd.size(0), hidden_btd.size(1), -1});
  };
  compare("output/slow_logits", logits(layer.slow_normed_btd));
  compare("output/fast_logits", logits(layer.fast_normed_btd));
  compare("output/loss", loss.total);
  for (const auto& [name, leaf] : golden.leaves())
    compare("gradients/" + name, leaf.grad().defined() ? leaf.grad() : at::zeros_like(leaf));
  return report;
}

}  // namespace fwl
