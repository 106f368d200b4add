#include "CReport.h"

static const unsigned char html[] = {
#embed "page.html"
};

creport_file creport_html(void) { return (creport_file){html, sizeof html}; }

static const unsigned char css[] = {
#embed "page.css"
};

creport_file creport_css(void) { return (creport_file){css, sizeof css}; }

static const unsigned char js[] = {
#embed "page.js"
};

creport_file creport_js(void) { return (creport_file){js, sizeof js}; }

static const unsigned char neuronpedia[] = {
#embed "neuronpedia.json"
};

creport_file creport_neuronpedia(void) { return (creport_file){neuronpedia, sizeof neuronpedia}; }
