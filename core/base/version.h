// What this program was made from.
#pragma once

#include <string>

namespace fwl {

std::string program_version();   // "0.2.0"
std::string libtorch_version();  // "2.11.0"
std::string compiler_version();  // "g++ 12.2.0"
std::string cuda_version();  // of the toolkit that compiled the kernels, "13.0.48"; "none" in a build without

// The commit of the sources in twelve digits, followed by "-dirty" when the tree differed from it; "unknown"
// outside a git repository. The program names it at its start (it alone is linked anew when the commit
// changes).
void set_source_commit(const std::string& commit);
const std::string& source_commit();

}  // namespace fwl
