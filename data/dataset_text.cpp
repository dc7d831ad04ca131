#include "data/dataset_text.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/base/error.h"
#include "core/base/system_error.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTokensAtOnce = 1 << 18;

// `path`, or the first of `path`.2, `path`.3, ... that may be used.
template <typename MayUse>
fs::path first_free(const fs::path& path, MayUse may_use) {
  fs::path candidate = path;
  for (int n = 2; !may_use(candidate); ++n) candidate = cat(path.string(), '.', n);
  return candidate;
}

// Where the document goes; its folder is made. A name that is taken gets a number behind it.
std::string free_path(const std::string& folder, const std::string& name) {
  const fs::path relative(name);
  const bool leaves =
      relative.is_absolute() || std::find(relative.begin(), relative.end(), "..") != relative.end();
  require<DataError>(!leaves && relative.has_filename(), "document '", name,
                     "' has a name that leaves the output folder (the data set is damaged, or not "
                     "to be trusted). Run `fwl data check`.");
  fs::path path(folder);
  for (const fs::path& part : relative.parent_path())
    path = first_free(path / part, [](const fs::path& p) { return !fs::exists(p) || fs::is_directory(p); });
  std::error_code error;
  fs::create_directories(path, error);
  require<DataError>(!error, "folder '", path.string(), "' cannot be made: ", error.message(),
                     ". Choose a folder that can be written.");
  return first_free(path / relative.filename(), [](const fs::path& p) { return !fs::exists(p); }).string();
}

void require_written(const std::ofstream& out, const std::string& path) {
  const int error = errno;
  require<DataError>(out.good(), "writing '", path, "' failed: ", system_words(error), ". ",
                     advice_for(error));
}

void write_document(const Split& split, const Document& document, const std::string& path) {
  std::ofstream out(path, std::ios::binary);
  require_written(out, path);
  std::vector<int64_t> tokens;
  int64_t written = 0;
  for (int64_t done = 0; done < document.num_tokens; done += kTokensAtOnce) {
    tokens.resize(static_cast<size_t>(std::min(kTokensAtOnce, document.num_tokens - done)));
    split.read_tokens(document.first_token + done, static_cast<int64_t>(tokens.size()), tokens.data());
    const std::string text = split.tokenizer().decode({tokens.begin(), tokens.end()});
    out.write(text.data(), static_cast<std::streamsize>(text.size()));
    written += static_cast<int64_t>(text.size());
  }
  out.close();
  require_written(out, path);
  require<DataError>(written == document.num_bytes, "document '", document.name, "' decodes to ", written,
                     " bytes, its index says ", document.num_bytes,
                     " (another tokenizer, or damaged). Run `fwl data check`.");
}

}  // namespace

TextReport write_documents(const Split& split, const std::string& folder) {
  TextReport report;
  for (int64_t i = 0; i < split.num_documents(); ++i) {
    const Document document = split.document(i);
    const std::string path = free_path(folder, document.name);
    write_document(split, document, path);
    report.renamed += path == (fs::path(folder) / document.name).string() ? 0 : 1;
    report.documents += 1;
    report.bytes += document.num_bytes;
  }
  return report;
}

}  // namespace fwl
