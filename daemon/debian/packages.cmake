# Debian packages: `cpack` in the build directory of the preset `package`. Each is an install component.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME apikeyd)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "") # each package has its own
set(CPACK_PACKAGE_CONTACT "apikeyd maintainers <maintainers@apikeyd.example>"
  CACHE STRING "Maintainer of the packages, as Debian writes it")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_SET_DESTDIR ON) # the configuration goes to /etc, which is outside the prefix
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL apikeyd configuration libapikey0 libapikey-dev apikeyctl)
set(CPACK_COMPONENTS_GROUPING ONE_PER_GROUP)
foreach(package IN ITEMS apikeyd libapikey0 libapikey-dev apikeyctl)
  string(TOUPPER ${package} upper)
  set(CPACK_COMPONENT_${upper}_GROUP ${package})
endforeach()
set(CPACK_COMPONENT_CONFIGURATION_GROUP apikeyd)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
# The manual pages compressed, and what each package's documentation must have.
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/stage.cmake)
set(CPACK_APIKEYD_DEBIAN ${CMAKE_CURRENT_LIST_DIR})

set(CPACK_DEBIAN_APIKEYD_PACKAGE_NAME apikeyd)
set(CPACK_DEBIAN_APIKEYD_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_APIKEYD_DESCRIPTION
"daemon that says what an API key may do
apikeyd answers one question for the services of a host: may this API key do
this scope on this page? It is asked over a local Unix socket, and answers
from a complete copy of its PostgreSQL store in memory, which it follows.")
set(CPACK_DEBIAN_APIKEYD_PACKAGE_DEPENDS
  "procps, systemd | systemd-standalone-sysusers | systemd-sysusers")
set(CPACK_DEBIAN_APIKEYD_PACKAGE_RECOMMENDS apikeyctl)
set(CPACK_DEBIAN_APIKEYD_PACKAGE_SUGGESTS postgresql)
set(CPACK_DEBIAN_APIKEYD_PACKAGE_CONTROL_EXTRA
  "${CMAKE_CURRENT_LIST_DIR}/conffiles;${CMAKE_CURRENT_LIST_DIR}/postinst;${CMAKE_CURRENT_LIST_DIR}/prerm;${CMAKE_CURRENT_LIST_DIR}/postrm")

set(CPACK_DEBIAN_LIBAPIKEY0_PACKAGE_NAME libapikey0)
set(CPACK_DEBIAN_LIBAPIKEY0_PACKAGE_SECTION libs)
# By hand: cpack's own way is a script that calls ldconfig, where Debian has a trigger.
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/debian/shlibs CONTENT "libapikey 0 libapikey0 (>= ${PROJECT_VERSION})\n")
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/debian/triggers CONTENT "activate-noawait ldconfig\n")
set(CPACK_DEBIAN_LIBAPIKEY0_PACKAGE_CONTROL_EXTRA
  "${PROJECT_BINARY_DIR}/debian/shlibs;${PROJECT_BINARY_DIR}/debian/triggers")
set(CPACK_DEBIAN_LIBAPIKEY0_DESCRIPTION
"client library of apikeyd
libapikey asks apikeyd whether an API key may do a scope on a status page,
from C, in a blocking form and one for event loops.")

set(CPACK_DEBIAN_LIBAPIKEY-DEV_PACKAGE_NAME libapikey-dev)
set(CPACK_DEBIAN_LIBAPIKEY-DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_LIBAPIKEY-DEV_PACKAGE_DEPENDS "libapikey0 (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_LIBAPIKEY-DEV_DESCRIPTION
"client library of apikeyd, for development
The header, the files for pkg-config and CMake, and the manual of libapikey,
which asks apikeyd whether an API key may do a scope on a status page.")

set(CPACK_DEBIAN_APIKEYCTL_PACKAGE_NAME apikeyctl)
set(CPACK_DEBIAN_APIKEYCTL_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_APIKEYCTL_DESCRIPTION
"administrator's command of apikeyd
apikeyctl mints, narrows and revokes API keys, asks apikeyd and explains its
answers, checks its policy stacks, and installs and upgrades the schema of its
database, whose migrations are in this package.")

include(CPack)
