#include "launch/causality_check.h"

#include <algorithm>
#include <set>

#include "checkpoints/identity.h"
#include "core/base/device.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/threads.h"
#include "launch/load_model.h"
#include "launch/step_gradient.h"
#include "launch/synthetic_batch.h"
#include "parallel/session.h"
#include "parallel/texts.h"

namespace fwl {
namespace {

constexpr int64_t kDefaultVocabulary = 256;
constexpr int64_t kRows = 2;

// The tokens of both windows, [kRows, 2 T].
struct Text {
  Tensor input_bt, label_bt, start_bt;
};

struct Edit {
  enum class Kind { kToken, kLabel } kind;
  int64_t position;  // token: of the input; label: of the prediction whose label changes
  std::string name() const { return cat(kind == Kind::kToken ? "token " : "label ", position); }
  // The first position whose logits may move.
  int64_t first_free() const { return kind == Kind::kToken ? position : position + 1; }
};

Text edited(const Text& stream, const Edit& edit, int64_t vocab_size) {
  Text s = {stream.input_bt.clone(), stream.label_bt.clone(), stream.start_bt};
  const auto change = [&](Tensor column) { column.copy_((column + 1) % vocab_size); };
  if (edit.kind == Edit::Kind::kToken) change(s.input_bt.select(1, edit.position));
  // The label of position p is the token at p + 1.
  const int64_t label = edit.kind == Edit::Kind::kToken ? edit.position - 1 : edit.position;
  if (label >= 0) change(s.label_bt.select(1, label));
  return s;
}

// A number per position that changes, practically always, when a bit of its logits does.
Tensor fingerprints(const Tensor& logits_btv) {
  const bool wide = logits_btv.scalar_type() == at::kDouble;
  const Tensor bits_btv = logits_btv.contiguous().view(wide ? at::kLong : at::kInt).to(at::kLong);
  const Tensor odd_v =
      at::arange(logits_btv.size(2), bits_btv.options()).mul_(0x9E3779B97F4A7C1).bitwise_or_(1);
  return (bits_btv * odd_v).sum(-1);
}

class Checker {
 public:
  Checker(const RunConfig& config, const LanguageModel& model, Mesh& mesh)
      : config_(config),
        model_(model),
        mesh_(mesh),
        share_(batch_share(config, mesh.shape(), 0, mesh.sequence_rank())),
        windows_(can_continue() ? 2 : 1) {
    make_stream();
  }

  int64_t windows() const { return windows_; }

  void run(CausalityReport* report) {
    std::vector<Pass> passes = {Pass::kSlow};
    if (model_.has_fast_weights()) passes.push_back(Pass::kFast);
    for (const Pass pass : passes) {
      const Tensor base_bt = positions(stream_, pass);
      for (const Edit& edit : edits()) check(edit, pass, base_bt, report);
    }
  }

 private:
  bool sharded() const { return mesh_.shape().sequence > 1; }
  int64_t context() const { return config_.model.context; }

  // The memory of a window travels with the halo exchange alone.
  bool can_continue() const {
    return !sharded() || config_.model.window <= 0 ||
           (choose_attention_algorithm(config_.parallel.attention, mesh_.shape().sequence,
                                       config_.model.heads,
                                       config_.model.window) == AttentionAlgorithm::kHalo &&
            config_.model.window - 1 <= context());
  }

  void make_stream() {
    SyntheticText text =
        awkward_text(static_cast<uint64_t>(config_.train.seed) + 1000 * mesh_.data_rank(),
                     config_.model.vocab_size, kRows, share_.positions, mesh_.shape().sequence);
    document_starts_ = text.document_starts;
    const TokenBatch all = synthetic_batch(text, 0, kRows, 0, windows_ * context(), at::kCPU, at::kFloat);
    stream_ = {all.input_bt, all.label_bt, all.document_start_bt};
  }

  // Shard edges, document edges, their neighbours, and both ends of both windows.
  std::vector<Edit> edits() const {
    std::set<int64_t> places;
    const auto around = [&](int64_t p) { places.insert({p - 1, p, p + 1}); };
    for (int64_t p = 0; p <= windows_ * context(); p += share_.positions) around(p);
    for (const int64_t p : document_starts_) around(p);
    std::vector<Edit> list;
    for (const int64_t p : places) {
      if (p < 1 || p >= windows_ * context()) continue;
      list.push_back({Edit::Kind::kToken, p});
      list.push_back({Edit::Kind::kLabel, p - 1});
    }
    return list;
  }

  std::unique_ptr<SequenceView> make_view() const {
    if (sharded()) {
      return std::make_unique<ShardedSequence>(mesh_.sequence(), config_.model, share_.positions,
                                               sequence_exchange_of(config_),
                                               windows_ > 1 ? Stream::kContinued : Stream::kNone);
    }
    return std::make_unique<ContinuedSequence>(FullAttention::kForgets);
  }

  // Fingerprints of the logits of all positions of both windows, [kRows, windows * T], on every rank.
  Tensor positions(const Text& stream, Pass pass) const {
    const auto view = make_view();
    std::vector<Tensor> windows;
    for (int64_t w = 0; w < windows_; ++w) {
      const auto part = [&](const Tensor& x) {
        return x.defined()
                   ? x.narrow(1, w * context() + share_.first_position, share_.positions).to(model_.device())
                   : x;
      };
      TokenBatch batch{part(stream.input_bt), part(stream.label_bt), {}, part(stream.start_bt)};
      batch.weight_bt =
          at::ones(batch.input_bt.sizes(),
                   at::TensorOptions().dtype(model_.accumulation_type()).device(model_.device()));
      const Tensor own_bl = fingerprints(model_.logits(batch, pass, *view)).contiguous();
      Tensor all = at::empty({mesh_.shape().sequence, own_bl.size(0), own_bl.size(1)}, own_bl.options());
      mesh_.sequence().all_gather(all, own_bl);
      windows.push_back(all.transpose(0, 1).reshape({own_bl.size(0), -1}).to(at::kCPU));
    }
    return at::cat(windows, 1);
  }

  void check(const Edit& edit, Pass pass, const Tensor& base_bt, CausalityReport* report) const {
    const Tensor now_bt = positions(edited(stream_, edit, config_.model.vocab_size), pass);
    ++report->edits;
    const Tensor moved_bt = now_bt != base_bt;
    const std::string where = cat(edit.name(), pass == Pass::kFast ? " (fast pass" : " (slow pass",
                                  ", shards of ", share_.positions, ")");
    const Tensor early = moved_bt.narrow(1, 0, edit.first_free()).any(0).nonzero();
    if (early.numel() > 0)
      report->leaks.push_back(cat(where, " moved the logits at ", early[0].item<int64_t>()));
    if (expects_effect(edit, pass) && !moved_bt.select(1, edit.first_free()).any().item<bool>())
      report->effects.push_back(cat(where, " moved nothing at ", edit.first_free()));
  }

  // A token always moves its own position. A label moves the fast weights that the next position sees, unless
  // a document starts there in every row.
  bool expects_effect(const Edit& edit, Pass pass) const {
    if (edit.kind == Edit::Kind::kToken) return true;
    if (pass == Pass::kSlow || edit.first_free() >= windows_ * context()) return false;
    if (!stream_.start_bt.defined()) return true;
    return !stream_.start_bt.select(1, edit.first_free()).all().item<bool>();
  }

  const RunConfig& config_;
  const LanguageModel& model_;
  Mesh& mesh_;
  BatchShare share_;
  int64_t windows_;
  std::vector<int64_t> document_starts_;
  Text stream_;
};

}  // namespace

CausalityReport check_causality(RunConfig config, const std::string& checkpoint) {
  const Placement& place = world();
  set_log_rank(place.rank, place.size);
  set_thread_count(place.local_size);
  std::unique_ptr<LanguageModel> model;
  std::string identity = "none";
  const at::Device device = choose_device(config.train.device, place.local_rank);
  if (!checkpoint.empty()) {
    ModelSource source;
    source.checkpoint = checkpoint;
    source.device = device.str();
    LoadedModel loaded = load_model(source, place.local_rank);
    identity = checkpoint_identity_or_gone(loaded.info.path);
    config.model = loaded.config.model;
    config.train.dtype = loaded.config.train.dtype;
    model = std::move(loaded.model);
  }
  if (config.model.vocab_size == 0) config.model.vocab_size = kDefaultVocabulary;
  RunConfig layout = config;
  layout.train.global_batch = std::max(place.size, 1);  // rows do not matter here
  const MeshShape shape = layout_of(layout, place.size);
  Mesh mesh(shape, device, config.parallel.timeout_s);
  require_same_text(mesh.host(), "the config", to_yaml(fields_of(config)));
  require_same_facts(mesh.host(), "the checkpoint", {{"manifest's hash", identity}},
                     "(the ranks would run different weights). Give all hosts the same checkpoint.");
  if (!model) {
    model = std::make_unique<LanguageModel>(config.model, device, parse_dtype(config.train.dtype),
                                            static_cast<uint64_t>(config.train.seed));
  }
  CausalityReport report{shape.to_string(), config.train.dtype, device.str(), 0, 0, {}, {}};
  Checker checker(config, *model, mesh);
  report.windows = checker.windows();
  checker.run(&report);
  // Data ranks check different text: a leak on one is a leak.
  const bool clean = all_agree(mesh.host(), report.passed() ? Vote::kYes : Vote::kNo);
  if (!clean && report.passed()) report.leaks.push_back("on another data rank: see its messages");
  return report;
}

}  // namespace fwl
