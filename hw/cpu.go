package hw

import (
	"strconv"
	"strings"

	"github.com/paramedic-ha/paramedic/correlate"
)

// PackageOf names the package (socket) that a logical processor is of: package 0 when the kernel doesn't say, or says no
// more because the processor is offline.
func (r Root) PackageOf(processor int) correlate.ID {
	name, err := ReadAttr(r.SysPath("devices", "system", "cpu", "cpu"+strconv.Itoa(processor), "topology", "physical_package_id"))
	if err != nil || strings.HasPrefix(name, "-") {
		name = "0"
	}
	return correlate.NewID(correlate.KindCPU, "package"+name)
}
