// A text coloured by what the fast weights gained at each token: one HTML file without scripts, light and
// dark. Written as the tokens come: memory does not grow with the text.
#pragma once

#include <string>
#include <vector>

#include "core/base/new_file.h"
#include "launch/generation/scorer.h"

namespace fwl {

class ScorePage {
 public:
  // `path` appears when the page is whole. Throws DataError.
  explicit ScorePage(const std::string& path);
  void add(const ScoredToken& token);
  // `title` and `about` (a sentence) are plain text.
  void finish(const std::string& title, const std::string& about, const ScoreTotals& totals);

 private:
  void write_group();
  NewFile page_, body_;  // the text comes before the totals that stand above it: `body_` is not published
  std::vector<ScoredToken> group_;  // tokens whose bytes are one character together
};

// -5 to 5: how the page shows a gain of so many nats.
int gain_level(double gain);

}  // namespace fwl
