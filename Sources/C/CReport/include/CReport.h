// The files of the report's page, which are embedded in the program.

#ifndef CREPORT_H
#define CREPORT_H

// The bytes of an embedded file. `size` is in bytes.
typedef struct {
    const unsigned char *_Nonnull start;
    long size;
} creport_file;

// The page's markup, style and script. ReportPage.swift joins them.
creport_file creport_html(void);
creport_file creport_css(void);
creport_file creport_js(void);
// The table of SAEs that have pages on Neuronpedia. NeuronpediaPages.swift reads it.
creport_file creport_neuronpedia(void);

#endif
