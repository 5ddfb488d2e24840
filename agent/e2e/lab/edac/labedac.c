// SPDX-License-Identifier: GPL-2.0 OR MIT
#include <linux/module.h>
#include <linux/edac.h>
#include <linux/platform_device.h>

struct mem_ctl_info *edac_mc_alloc(unsigned int mc_num, unsigned int n_layers, struct edac_mc_layer *layers, unsigned int sz_pvt);
int edac_mc_add_mc_with_groups(struct mem_ctl_info *mci, const struct attribute_group **groups);
struct mem_ctl_info *edac_mc_del_mc(struct device *dev);
void edac_mc_free(struct mem_ctl_info *mci);
void edac_mc_handle_error(const enum hw_event_mc_err_type type, struct mem_ctl_info *mci, const u16 error_count,
			  const unsigned long page_frame_number, const unsigned long offset_in_page, const unsigned long syndrome,
			  const int top_layer, const int mid_layer, const int low_layer, const char *msg, const char *other_detail);

static struct platform_device *pdev;
static struct mem_ctl_info *mci;

static int inject(const char *val, const struct kernel_param *kp)
{
	unsigned int slot, count;
	char kind;

	if (sscanf(val, "%ce %u %u", &kind, &slot, &count) != 3 || slot > 3 || !count)
		return -EINVAL;
	edac_mc_handle_error(kind == 'u' ? HW_EVENT_ERR_UNCORRECTED : HW_EVENT_ERR_CORRECTED, mci, count, 0, 0, 0, slot / 2, slot % 2, -1, "lab", "");
	return 0;
}
static const struct kernel_param_ops ops = { .set = inject };
module_param_cb(inject, &ops, NULL, 0200);

static int __init start(void)
{
	struct edac_mc_layer layers[2] = {
		{ .type = EDAC_MC_LAYER_CHANNEL, .size = 2, .is_virt_csrow = false },
		{ .type = EDAC_MC_LAYER_SLOT, .size = 2, .is_virt_csrow = true },
	};
	struct dimm_info *dimm;

	pdev = platform_device_register_simple("labedac", -1, NULL, 0);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);
	mci = edac_mc_alloc(0, 2, layers, 0);
	if (!mci)
		goto out;
	mci->pdev = &pdev->dev;
	mci->mtype_cap = MEM_FLAG_DDR4;
	mci->edac_ctl_cap = mci->edac_cap = EDAC_FLAG_SECDED;
	mci->mod_name = mci->ctl_name = mci->dev_name = "labedac";
	mci_for_each_dimm(mci, dimm) {
		dimm->nr_pages = (4UL << 30) >> PAGE_SHIFT;
		dimm->grain = 64;
		dimm->mtype = MEM_DDR4;
		dimm->dtype = DEV_X8;
		dimm->edac_mode = EDAC_SECDED;
		snprintf(dimm->label, sizeof(dimm->label), "DIMM_%c%d", 'A' + dimm->location[0], dimm->location[1] + 1);
	}
	if (!edac_mc_add_mc_with_groups(mci, NULL))
		return 0;
	edac_mc_free(mci);
out:
	platform_device_unregister(pdev);
	return -ENODEV;
}

static void __exit stop(void)
{
	edac_mc_del_mc(&pdev->dev);
	edac_mc_free(mci);
	platform_device_unregister(pdev);
}
module_init(start);
module_exit(stop);
MODULE_LICENSE("Dual MIT/GPL");
