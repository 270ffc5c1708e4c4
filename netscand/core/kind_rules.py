"""Rules that name the kind of a device by its evidence: data only, each group with its source.

A rule is here only if nearly every device with that evidence is of that kind. What many kinds share (`android-dhcp-`,
`udhcp`, `dhcpcd`, `_http._tcp`, `_ssh._tcp`, `_smb._tcp`, `_esphomelib._tcp`, a vendor of many products) has no rule:
then netscand says nothing. To add one: add real devices to tests/core/data/kinds.toml, too.
"""

# ---- the kinds -----------------------------------------------------------------------------------------------------

KINDS = (
    "router", "access_point", "switch", "computer", "laptop", "server", "nas", "virtual_machine", "container", "phone",
    "tablet", "watch", "voip_phone", "printer", "tv", "speaker", "console", "camera", "light", "plug", "sensor",
    "thermostat", "lock", "vacuum", "appliance", "energy", "hub", "other",
)  # fmt: skip
"""Values of `kind`, as in netscand/protocol.py; docs/kinds.md explains each."""

MORE_EXACT = {"computer": ("laptop", "server", "nas", "virtual_machine"), "server": ("nas", "virtual_machine")}
"""A kind → those that say the same more exactly."""

# ---- mDNS service types --------------------------------------------------------------------------------------------
# Sources: the registry of service names of the IANA; the DNS-SD documentation of the makers.

SERVICES = {
    # Printers (Bonjour Printing Specification 1.2.1; Mopria eSCL). A queue of CUPS has `rp=printers/…`: no printer.
    "_ipp._tcp": "printer", "_ipps._tcp": "printer", "_printer._tcp": "printer", "_pdl-datastream._tcp": "printer",
    "_uscan._tcp": "printer", "_uscans._tcp": "printer", "_scanner._tcp": "printer", "_fax-ipp._tcp": "printer",
    # TVs, and boxes and sticks for them
    "_androidtvremote._tcp": "tv", "_androidtvremote2._tcp": "tv", "_viziocast._tcp": "tv", "_appletv-v2._tcp": "tv",
    "_mediaremotetv._tcp": "tv", "_tivo-remote._tcp": "tv", "_tivo-device._tcp": "tv", "_amzn-wplay._tcp": "tv",
    "_lg-smart-device._tcp": "tv", "_philipstv_rpc._tcp": "tv", "_philipstv_s_rpc._tcp": "tv",
    # Speakers and receivers
    "_sonos._tcp": "speaker", "_soundtouch._tcp": "speaker", "_heos-audio._tcp": "speaker", "_musc._tcp": "speaker",
    "_musp._tcp": "speaker", "_bangolufsen._tcp": "speaker", "_beoremote._tcp": "speaker", "_linkplay._tcp": "speaker",
    "_stream-magic._tcp": "speaker", "_smoip._tcp": "speaker", "_devialet-http._tcp": "speaker",
    # Cameras
    "_axis-video._tcp": "camera", "_psia._tcp": "camera", "_rtsp._tcp": "camera", "_axis-nvr._tcp": "camera",
    # Lights
    "_wled._tcp": "light", "_elg._tcp": "light", "_nanoleafapi._tcp": "light", "_nanoleafms._tcp": "light",
    "_lifx._tcp": "light",
    # Hubs of smart homes
    "_hue._tcp": "hub", "_leap._tcp": "hub", "_lutron._tcp": "hub", "_bond._tcp": "hub", "_kizbox._tcp": "hub",
    "_kizboxdev._tcp": "hub", "_plugwise._tcp": "hub", "_powerview._tcp": "hub", "_powerview-g3._tcp": "hub",
    "_xzg._tcp": "hub", "_slzb-06._tcp": "hub", "_czc._tcp": "hub", "_zigate-zigbee-gateway._tcp": "hub",
    # Heating, appliances, meters
    "_dkapi._tcp": "appliance", "_mieleathome._tcp": "appliance", "_homeconnect._tcp": "appliance",
    "_dyson_mqtt._tcp": "appliance", "_360eye_mqtt._tcp": "vacuum", "_enphase-envoy._tcp": "energy",
    "_ecobee._tcp": "thermostat", "_hwenergy._tcp": "energy",
    # Computers
    "_home-assistant._tcp": "server", "_plexmediasvr._tcp": "server", "_rfb._tcp": "computer",
    "_odisk._tcp": "computer", "_teamviewer._tcp": "computer", "_nvstream_dbd._tcp": "computer",
    "_dosvc._tcp": "computer", "_qdiscover._tcp": "nas", "_readynas._tcp": "nas", "_adisk-nas._tcp": "nas",
    # Base stations of Apple
    "_airport._tcp": "access_point",
}  # fmt: skip

NOT_PRINTERS = ("_workstation._tcp", "_sftp-ssh._tcp", "_udisks-ssh._tcp", "_afpovertcp._tcp", "_airport._tcp",
                "_rfb._tcp", "_home-assistant._tcp", "_companion-link._tcp", "_adisk._tcp")  # fmt: skip
"""Services of computers and routers, which share the printers of others."""

QUEUE = ("printers/", "/printers/")
"""Beginning of the path (`rp`) of a print queue of CUPS."""

# ---- models in TXT records -----------------------------------------------------------------------------------------
# Service type (part of it), key, beginning of the value in lower case → kind. Models of Apple: their identifiers.

TXT = (
    ("", "model", "macbook", "laptop"), ("", "model", "imac", "computer"), ("", "model", "macmini", "computer"),
    ("", "model", "macpro", "computer"), ("", "model", "mac1", "computer"), ("", "model", "mac2", "computer"),
    ("", "model", "appletv", "tv"), ("", "model", "audioaccessory", "speaker"), ("", "model", "iphone", "phone"),
    ("", "model", "ipad", "tablet"), ("", "model", "watch", "watch"), ("", "model", "airport", "access_point"),
    ("_raop._tcp", "am", "appletv", "tv"), ("_raop._tcp", "am", "audioaccessory", "speaker"),
    ("_raop._tcp", "am", "macbook", "laptop"), ("_raop._tcp", "am", "imac", "computer"),
    ("_raop._tcp", "am", "macmini", "computer"), ("_raop._tcp", "am", "mac1", "computer"),
    ("_companion-link._tcp", "rpmd", "iphone", "phone"), ("_companion-link._tcp", "rpmd", "ipad", "tablet"),
    ("_companion-link._tcp", "rpmd", "macbook", "laptop"), ("_companion-link._tcp", "rpmd", "appletv", "tv"),
    ("_companion-link._tcp", "rpmd", "audioaccessory", "speaker"), ("_companion-link._tcp", "rpmd", "watch", "watch"),
    ("_companion-link._tcp", "rpmd", "imac", "computer"), ("_companion-link._tcp", "rpmd", "macmini", "computer"),
    ("_companion-link._tcp", "rpmd", "mac1", "computer"),
    # AirPlay 2 of other makers: their speakers, or their TVs
    ("_airplay._tcp", "manufacturer", "sonos", "speaker"), ("_airplay._tcp", "manufacturer", "bose", "speaker"),
    ("_airplay._tcp", "manufacturer", "bang", "speaker"), ("_airplay._tcp", "manufacturer", "denon", "speaker"),
    ("_airplay._tcp", "manufacturer", "marantz", "speaker"), ("_airplay._tcp", "manufacturer", "yamaha", "speaker"),
    ("_airplay._tcp", "manufacturer", "lg", "tv"), ("_airplay._tcp", "manufacturer", "vizio", "tv"),
    ("_airplay._tcp", "manufacturer", "roku", "tv"), ("_airplay._tcp", "manufacturer", "sony", "tv"),
    ("_airplay._tcp", "manufacturer", "samsung", "tv"),
    # Google Cast
    ("_googlecast._tcp", "md", "chromecast audio", "speaker"), ("_googlecast._tcp", "md", "chromecast", "tv"),
    ("_googlecast._tcp", "md", "google home", "speaker"), ("_googlecast._tcp", "md", "google nest mini", "speaker"),
    ("_googlecast._tcp", "md", "nest audio", "speaker"), ("_googlecast._tcp", "md", "google nest hub", "speaker"),
    ("_googlecast._tcp", "md", "google tv", "tv"), ("_googlecast._tcp", "md", "bravia", "tv"),
    ("_googlecast._tcp", "md", "shield android", "tv"), ("_googlecast._tcp", "md", "mibox", "tv"),
    # NAS
    ("_http._tcp", "vendor", "synology", "nas"), ("_smb._tcp", "vendor", "synology", "nas"),
    ("_device-info._tcp", "model", "ds2", "nas"),
    # ESP32 and others that name their device
    ("_http._tcp", "devicetype", "wattpilot", "energy"), ("_ewelink._tcp", "type", "plug", "plug"),
    ("_ewelink._tcp", "type", "diy_plug", "plug"), ("_ewelink._tcp", "type", "strip", "plug"),
    ("_ewelink._tcp", "type", "light", "light"), ("_shelly._tcp", "app", "plug", "plug"),
    ("_shelly._tcp", "app", "dimmer", "light"), ("_shelly._tcp", "app", "ht", "sensor"),
    ("_shelly._tcp", "app", "pro3em", "energy"), ("_shelly._tcp", "app", "proem", "energy"),
)  # fmt: skip

NOT_NAS = ("rt", "mr", "wrx")
"""Models of Synology that are routers."""

HOMEKIT = {
    "2": "hub", "3": "appliance", "5": "light", "6": "lock", "7": "plug", "8": "plug", "9": "thermostat",
    "10": "sensor", "16": "access_point", "17": "camera", "18": "camera", "19": "appliance", "20": "appliance",
    "21": "appliance", "22": "appliance", "23": "appliance", "24": "tv", "25": "speaker", "26": "speaker",
    "28": "appliance", "31": "tv", "33": "router", "34": "speaker", "35": "tv", "36": "tv",
}  # fmt: skip
"""Category (`ci` of `_hap._tcp`; HomeKit Accessory Protocol, Accessory Categories) → kind. Bridges in software, on a
computer, have category 2 as well: HOMEKIT_SOFTWARE."""

HOMEKIT_SOFTWARE = (
    "homebridge", "hass", "home assistant", "openhab", "scrypted", "iobroker", "mqtt", "node-red",
)  # fmt: skip
"""Beginnings of the model (`md`) of accessories in software: the device is the computer that it runs on."""

MATTER = {
    "10": "lock", "21": "sensor", "44": "sensor", "45": "appliance", "112": "appliance", "114": "appliance",
    "115": "appliance", "116": "vacuum", "117": "appliance", "118": "sensor", "119": "appliance", "120": "appliance",
    "121": "appliance", "122": "appliance", "256": "light", "257": "light", "262": "sensor", "263": "sensor",
    "266": "plug", "267": "plug", "268": "light", "269": "light", "14": "hub", "35": "tv", "34": "speaker",
    "769": "thermostat", "770": "sensor", "773": "sensor", "774": "sensor", "775": "sensor", "1292": "energy",
}  # fmt: skip
"""Device type (`DT` of `_matterc._udp`, decimal; Matter Device Library) → kind."""

# ---- DHCP vendor classes (option 60) -------------------------------------------------------------------------------
# Beginning in lower case → kind. Sources: the manuals of the makers about option 60 and 43.

DHCP = (
    ("msft 5.0", "computer"), ("msft 98", "computer"), ("aaplbsdpc", "computer"),
    ("mfg=hewlett packard;typ=printer", "printer"), ("hewlett-packard jetdirect", "printer"),
    ("hewlett-packard laserjet", "printer"), ("hewlett-packard officejet", "printer"), ("mfg=lexmark", "printer"),
    ("lexmark", "printer"), ("mfg=xerox", "printer"), ("xerox", "printer"), ("brother", "printer"),
    ("epson", "printer"), ("kyocera", "printer"), ("ricoh", "printer"), ("mfg=samsung;typ=printer", "printer"),
    ("cisco systems, inc. ip phone", "voip_phone"), ("cisco systems inc. wireless phone", "voip_phone"),
    ("yealink", "voip_phone"), ("snom", "voip_phone"), ("polycom", "voip_phone"), ("ccp.avaya.com", "voip_phone"),
    ("fanvil", "voip_phone"), ("mitel ip phone", "voip_phone"), ("aastraipphone", "voip_phone"),
    ("grandstream gxp", "voip_phone"), ("grandstream grp", "voip_phone"), ("nortel-i2004", "voip_phone"),
    ("shoretel ip phone", "voip_phone"), ("gigaset", "voip_phone"), ("yeastar", "voip_phone"),
    ("cisco ap ", "access_point"), ("arubaap", "access_point"), ("arubainstantap", "access_point"),
    ("ruckus cpe", "access_point"), ("aerohive ap", "access_point"), ("motorolaap", "access_point"),
    ("meraki", "access_point"), ("mistap", "access_point"), ("ubnt.uap", "access_point"),
    ("ps4", "console"), ("ps5", "console"), ("xbox", "console"), ("msft 5.0 xbox", "console"),
    ("nintendo", "console"), ("roku/", "tv"), ("roku", "tv"), ("withings", "sensor"),
)  # fmt: skip

MACOS = bytes((1, 121, 3, 6, 15)), bytes((95, 44, 46))
"""Beginning and end of the parameters (option 55) that macOS requests; iOS requests them without the last three.
Source: android.pcap and iphone.pcap of nDPI's tests."""

# ---- host names ----------------------------------------------------------------------------------------------------
# Text within the first label in lower case, regular expression on all of it, kind: names that a maker gives by default,
# and others do not use. A regular expression is compiled only once its text is found.

HOST_NAMES = (
    # Apple: the owner's name and the product's
    ("iphone", r"(.*-)?iphone(-.*|\d*)", "phone"), ("ipad", r"(.*-)?ipad(-.*|\d*)", "tablet"),
    ("", r"(.*-)?(macbook|mbp|mba)(-?(pro|air))?(-.*|\d*)", "laptop"), ("imac", r"(.*-)?imac(-.*|\d*)", "computer"),
    ("mac", r"(.*-)?mac-?(mini|studio|pro)(-.*|\d*)", "computer"), ("apple", "(.*-)?apple-?watch(-.*)?", "watch"),
    ("apple", r"(.*-)?apple-?tv(-.*|\d*)", "tv"), ("homepod", r"(.*-)?homepod(-.*|\d*)", "speaker"),
    # Android: the product's name
    ("galaxy-tab", "(.*-)?galaxy-tab.*", "tablet"),
    ("galaxy-", "(.*-)?galaxy-(a|j|m|s|z|note|xcover|fold|flip).*", "phone"),
    ("galaxy-watch", "(.*-)?galaxy-watch.*", "watch"), ("galaxy-book", "(.*-)?galaxy-book.*", "laptop"),
    ("sm-", r"sm-[agsnfmjz]\d{3}.*", "phone"), ("sm-", r"sm-[tpx]\d{3}.*", "tablet"),
    ("sm-r", r"sm-r\d{3}.*", "watch"), ("pixel-tablet", "(.*-)?pixel-tablet(-.*)?", "tablet"),
    ("pixel-watch", "(.*-)?pixel-watch.*", "watch"),
    ("pixel", r"(.*-)?pixel-?\d+a?(-(pro|xl|a|fold).*)?(-\d+)?", "phone"),
    ("pixel-fold", "(.*-)?pixel-fold.*", "phone"), ("oneplus-", r"oneplus-(\d+.*|nord.*)", "phone"),
    ("redmi-", r"(.*-)?redmi-(note-)?\d+.*", "phone"), ("redmi", "(.*-)?redmi-?pad.*", "tablet"),
    ("poco-", r"(.*-)?poco-[a-z]\d.*", "phone"), ("huawei_p", r"huawei_p\d+.*", "phone"),
    ("huawei_mate", r"huawei_mate_?\d+.*", "phone"), ("huawei_matepad", "huawei_matepad.*", "tablet"),
    ("moto-", "moto-[ge].*", "phone"), ("xperia-", "xperia-.*", "phone"),
    ("", r"(.*-)?(mi|xiaomi)-?\d+(t|-lite|-pro|-ultra|-t).*", "phone"),
    # Windows: [MS] names of an installation
    ("desktop-", "desktop-[a-z0-9]{7}", "computer"), ("laptop-", "laptop-[a-z0-9]{8}", "laptop"),
    ("win-", "win-[a-z0-9]{11}", "computer"),
    # Printers: the maker and the MAC
    ("npi", "npi[0-9a-f]{6}", "printer"), ("hp", "hp[0-9a-f]{6}([0-9a-f]{6})?", "printer"),
    ("br", "br[nw][0-9a-f]{12}", "printer"), ("epson", "epson[0-9a-f]{6}", "printer"),
    ("canon", "canon[0-9a-f]{6}", "printer"), ("rnp", "rnp[0-9a-f]{12}", "printer"),
    ("xrx", "xrx[0-9a-f]{6,12}", "printer"), ("et", "et[0-9a-f]{12}", "printer"), ("km", "km[0-9a-f]{6}", "printer"),
    ("kmb", "kmbt?[0-9a-f]{6}", "printer"), ("sec", "sec[0-9a-f]{12}", "printer"),
    # TVs, speakers, consoles
    ("lgwebostv", "lgwebostv.*", "tv"), ("bravia", "bravia.*", "tv"),
    ("chromecast-audio", "chromecast-audio.*", "speaker"), ("chromecast", "chromecast.*", "tv"),
    ("roku", r"roku-?(ultra|express|stick|tv|\d).*", "tv"), ("fire", "(amazon)?fire-?tv.*", "tv"),
    ("shield-android-tv", "shield-android-tv.*", "tv"), ("androidtv", "androidtv.*", "tv"),
    ("sonos", "sonos.*", "speaker"), ("google", "google-?home(-.*)?", "speaker"),
    ("google-nest-", "google-nest-(mini|audio|hub).*", "speaker"), ("bose-", "bose-.*", "speaker"),
    ("denon-av", "denon-av.*", "speaker"), ("ps", "ps[345](-.*|[0-9a-f]+)?", "console"),
    ("playstation", "playstation.*", "console"), ("xbox", "xbox.*", "console"), ("nintendo", "nintendo.*", "console"),
    ("steamdeck", "steamdeck.*", "console"),
    # Network
    ("fritz", "fritz[!.-]?box.*", "router"), ("repeater", "fritz[.-]?repeater.*", "access_point"),
    ("unifi", "unifi-?ap.*", "access_point"), ("uap-", "uap-.*", "access_point"),
    ("u", "u[67]-(lite|pro|lr|mesh|enterprise|plus|iw).*", "access_point"), ("speedport", "speedport.*", "router"),
    ("openwrt", "openwrt", "router"), ("deco-", "deco-.*", "access_point"), ("usw-", "usw-.*", "switch"),
    ("sep", "sep[0-9a-f]{12}", "voip_phone"), ("sip-t", r"sip-t\d\d.*", "voip_phone"),
    ("polycom", "polycom.*", "voip_phone"), ("spa", "spa[0-9a-f]{12}", "voip_phone"),
    ("yealink", "yealink.*", "voip_phone"),
    # NAS, small computers
    ("diskstation", "diskstation.*", "nas"), ("synology", "synology.*", "nas"), ("nas", "nas[0-9a-f]{6}", "nas"),
    ("readynas", "readynas.*", "nas"), ("mycloud", "mycloud.*", "nas"), ("nas", "(true|free)nas.*", "nas"),
    ("raspberrypi", "raspberrypi.*", "computer"), ("assistant", "home-?assistant", "server"),
    ("", r"(proxmox|pve)\d*", "server"),
    # Smart homes: product names of the makers (Shelly, TP-Link, Xiaomi, D-Link, …)
    ("shellyplug", "shellyplug.*", "plug"), ("shelly", "shelly(plus)?plug.*", "plug"),
    ("shelly", r"shelly((plus|pro)?[124](pm|l)?|25|1mini|1pmmini)(g3|g4)?-.*", "plug"),
    ("shelly", "shelly(bulb|vintage|colorbulb|dimmer|dimmer2|rgbw2|plusrgbwpm|duo).*", "light"),
    ("shelly", "shelly(ht|plusht|flood|motion|dw|dw2|smoke|plussmoke|gas|htg3).*", "sensor"),
    ("shelly", "shelly(em|em3|3em|pro3em|proem50|pmmini)(g3)?-.*", "energy"),
    ("shellytrv", "shellytrv.*", "thermostat"), ("wled-", "wled-.*", "light"), ("philips-hue", "philips-hue", "hub"),
    ("yeelink-light-", "yeelink-light-.*", "light"), ("wiz_", "wiz_.*", "light"), ("lifx-", "lifx-.*", "light"),
    ("lightify-", "lightify-.*", "hub"), ("nanoleaf-", "nanoleaf-.*", "light"),
    ("elgato-key-light", "elgato-key-light.*", "light"),
    ("", r"(hs1[01]\d|kp1\d\d|ep\d\d|p1[01]\d|hs300|kp303|tp25)(\(.*\))?(-.*)?", "plug"),
    ("", r"(kl\d{2,3}[a-z]?|lb[12]\d\d|l5[13]0|l9[0-3]0)(\(.*\))?([-_].*)?", "light"),
    ("-vacuum-", "(roborock|rockrobo)-vacuum-.*", "vacuum"), ("-", "(roomba|irobot)-.*", "vacuum"),
    ("dreame", "dreame[-_.]vacuum.*", "vacuum"), ("chuangmi-plug", "chuangmi-plug.*", "plug"),
    ("-camera", "(chuangmi|isa)-camera.*", "camera"), ("zhimi-", "zhimi-(airpurifier|fan|humidifier).*", "appliance"),
    ("lumi-gateway", "lumi-gateway.*", "hub"), ("dcs-", r"dcs-\d{3}.*", "camera"), ("dsp-w", r"dsp-w\d{3}.*", "plug"),
    ("axis-", "axis-[0-9a-f]{12}", "camera"), ("ipc", "ipc([-_].*)?", "camera"), ("reolink", "reolink.*", "camera"),
    ("wyze", "wyze-?cam.*", "camera"), ("tapo", r"tapo_?c\d{3}.*", "camera"), ("c", r"c[12]\d\d_.*", "camera"),
    ("ecobee", "ecobee.*", "thermostat"), ("envoy", "envoy", "energy"), ("", "solaredge.*|solarnet.*", "energy"),
    ("wattpilot", "wattpilot.*", "energy"), ("openevse", "openevse.*", "energy"),
    ("-", r"(bosch|siemens|neff)-.*-\d{15,}", "appliance"), ("dyson-", "dyson-.*", "appliance"),
)  # fmt: skip

# ---- vendors -------------------------------------------------------------------------------------------------------
# Beginning of the name in lower case → kind: only of companies whose devices on a LAN are nearly all of one kind.

VENDORS = (
    ("sonos", "speaker"), ("bose corp", "speaker"), ("bang & olufsen", "speaker"), ("devialet", "speaker"),
    ("d&m holdings", "speaker"), ("denon", "speaker"), ("roku", "tv"), ("vizio", "tv"), ("tivo", "tv"),
    ("nintendo", "console"), ("sony interactive", "console"), ("sony computer entertainment", "console"),
    ("valve corporation", "console"), ("axis communications", "camera"), ("hangzhou hikvision", "camera"),
    ("zhejiang dahua", "camera"), ("amcrest", "camera"), ("reolink", "camera"), ("foscam", "camera"),
    ("shenzhen reecam", "camera"), ("arlo tech", "camera"), ("mobotix", "camera"), ("vivotek", "camera"),
    ("brother industries", "printer"), ("lexmark", "printer"), ("kyocera document", "printer"),
    ("ricoh company", "printer"), ("oki electric", "printer"), ("synology", "nas"),
    ("asustor", "nas"), ("irobot", "vacuum"), ("beijing roborock", "vacuum"), ("roborock", "vacuum"),
    ("ecovacs", "vacuum"), ("neato robotics", "vacuum"), ("ecobee", "thermostat"), ("resideo", "thermostat"),
    ("tado", "hub"), ("lutron", "hub"), ("lifi labs", "light"), ("lifx", "light"), ("nanoleaf", "light"),
    ("qingdao yeelink", "light"), ("wiz connected", "light"), ("enphase", "energy"), ("solaredge", "energy"),
    ("sma solar", "energy"), ("fronius", "energy"), ("american power conv", "energy"), ("yealink", "voip_phone"),
    ("snom tech", "voip_phone"), ("polycom", "voip_phone"), ("fanvil", "voip_phone"), ("aerohive", "access_point"),
    ("ruckus", "access_point"), ("eero", "access_point"), ("miele", "appliance"), ("bsh haus", "appliance"),
    ("whirlpool", "appliance"), ("dyson", "appliance"), ("daikin", "appliance"), ("raspberry pi", "computer"),
    ("schlage", "lock"), ("august home", "lock"), ("nuki", "lock"),
)  # fmt: skip

# ---- MAC prefixes --------------------------------------------------------------------------------------------------
# Of hypervisors and container engines: their documentation, and the registry of the IEEE.

MACS = {
    b"\x00\x05\x69": ("virtual_machine", "VMware"), b"\x00\x0c\x29": ("virtual_machine", "VMware"),
    b"\x00\x50\x56": ("virtual_machine", "VMware"), b"\x00\x1c\x14": ("virtual_machine", "VMware"),
    b"\x00\x15\x5d": ("virtual_machine", "Hyper-V"), b"\x00\x16\x3e": ("virtual_machine", "Xen"),
    b"\x00\x1c\x42": ("virtual_machine", "Parallels"), b"\x08\x00\x27": ("virtual_machine", "VirtualBox"),
    b"\x52\x54\x00": ("virtual_machine", "QEMU"), b"\x02\x42\xac": ("container", "Docker"),
}  # fmt: skip
"""Docker derives the rest of the MAC of a container from its address, which is in 172.16.0.0/12 by default."""
