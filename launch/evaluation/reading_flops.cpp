#include "launch/evaluation/reading_flops.h"

#include <algorithm>

namespace fwl {
namespace {

struct Reader {
  const ModelConfig& config;
  const ModeTraits& mode;
  int64_t segment;
  at::Device device;
  double inner_rows;
  bool goes_on = false;  // carried states are read by a later window of the unit

  // What the mode has read of the sequence before a window: inputs that its state and its attention know.
  struct Before {
    int64_t learned = 0, remembered = 0;
  };

  SequenceRead read_at(const Before& before, int64_t positions, int64_t labelled) const {
    SequenceRead read;
    read.positions = positions;
    read.remembered = config.window > 0 ? before.remembered : 0;
    read.labelled = labelled;
    read.has_inbound = before.learned > 0;
    read.carries_state = goes_on || mode.adapts;
    read.device = device;
    read.inner_rows = inner_rows;
    return read;
  }

  Flops static_window(const Window& window, const Before& before) const {
    const int64_t labelled = learns_from_overlap(mode) ? window.inputs() : window.count;
    return forward_flops(config, mode.pass, read_at(before, window.inputs(), labelled));
  }

  Flops adapting_window(const Window& window, const Before& before) const {
    Flops sum;
    if (window.overlap > 0) {
      const bool learns = learns_from_overlap(mode);
      sum += forward_flops(config, learns ? Pass::kFast : Pass::kSlow,
                           read_at(before, window.overlap, learns ? window.overlap : 1));
    }
    for (int64_t done = 0; done < window.count; done += segment) {
      const int64_t within = window.overlap + done;
      SequenceRead read = read_at({before.learned + within, before.remembered + within},
                                  std::min(segment, window.count - done), -1);
      if (config.window == 0) read.remembered = within;
      sum += forward_flops(config, mode.pass, read);
      sum += backward_flops(config, mode.pass, read);
    }
    return sum;
  }
};

}  // namespace

double reading_flops(const ModelConfig& config, const std::vector<ReadingUnit>& units, const ModeTraits& mode,
                     Carry::Scope scope, int64_t segment, at::Device device, double inner_rows) {
  Reader reader{config, mode, segment, device, inner_rows};
  Flops sum;
  for (const ReadingUnit& unit : units) {
    reader.goes_on = mode.carries && unit.front().size() > 1;
    for (const auto& row : unit) {
      Reader::Before before;
      int64_t document = row.front().document;
      for (const Window& window : row) {
        const bool is_new = window.document != document && scope == Carry::Scope::kDocument;
        document = window.document;
        if (!mode.carries || is_new) before = {};
        if (window.begins) before.learned = 0;
        sum += mode.adapts ? reader.adapting_window(window, before) : reader.static_window(window, before);
        before.learned += window.inputs();
        before.remembered += window.inputs();
      }
    }
  }
  return sum.total();
}

}  // namespace fwl
