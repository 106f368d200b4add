// A library that lacks every function one may look for in it.
int sae_extract_empty_library(void) { return 0; }
