// Alert rules come later; until then the page only says what they will do.

import "../lib/shell.js";
